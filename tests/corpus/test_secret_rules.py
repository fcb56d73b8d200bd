"""gitleaks' configurations are read unchanged and mean what they mean there; what is wrong in one is named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.corpus.repositories import write

from codegemma.corpus import safety
from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.pipeline import build_corpus
from codegemma.corpus.safety import find_secrets
from codegemma.corpus.secret_rules import Required, SecretRules, load_secret_rules
from codegemma.errors import InputError
from codegemma.records import DroppedFile
from codegemma.shards import read_records

RULE = "[[rules]]\nid = 'code'\nregex = '''code-([a-z0-9]+)'''\nkeywords = ['CODE-']\n"
GLOBAL, OWN = "[[allowlists]]\n", "[[rules.allowlists]]\n"


def load(folder: Path, text: str, name: str = "rules.toml") -> SecretRules:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return load_secret_rules(str(path))


def find(rules: SecretRules, text: str, path: str = "src/a.py", commit: str = "") -> list[tuple[str, int | None]]:
    return [tuple(finding) for finding in find_secrets(text, path, rules, commit)]  # type: ignore[misc]


def test_keywords_entropy_and_groups_mean_what_they_mean_in_gitleaks(tmp_path: Path) -> None:
    rules = load(
        tmp_path,
        """
        title = "x"
        minVersion = "v8.25.0"
        [[rules]]
        id = "first-group"
        regex = '''(?i)alpha(?:-(one)|-(two))'''
        entropy = 1.5
        keywords = ["ALPHA"]
        tags = ["a"]
        [[rules]]
        id = "named-group"
        regex = '''beta (\\w+) (\\w+)'''
        secretGroup = 2
        entropy = "1.9"
        keywords = "beta"
        [[rules]]
        id = "no-keyword"
        regex = '''(?-i:Ga)mma'''
        """,
    )
    assert find(rules, "x\nALPHA-two") == [("first-group", 2)]
    assert find(rules, "alpha-\nTwo") == []
    assert find(rules, "beta aaaa abcd\nbeta abcd aaaa\nbeta x abc") == [("named-group", 1)]
    assert find(rules, "gamma") == []
    assert find(rules, "ß Gamma") == [("no-keyword", 1)]


def test_entropy_must_be_exceeded_not_reached(tmp_path: Path) -> None:
    rules = load(tmp_path, "[[rules]]\nid = 'x'\nregex = 'x(....)'\nentropy = 2.0\n")
    assert find(rules, "xabcd") == []
    assert find(load(tmp_path, "[[rules]]\nid = 'x'\nregex = 'x(....)'\nentropy = 1.99\n"), "xabcd") == [("x", 1)]


def test_rules_by_path(tmp_path: Path) -> None:
    rules = load(
        tmp_path,
        RULE + "path = '''\\.env$'''\n[[rules]]\nid = 'pkcs12-file'\npath = '''(?i)\\.p(?:12|fx)$'''\nkeywords=[]\n",
    )
    assert find(rules, "code-1", "a/.env") == [("code", 1)]
    assert find(rules, "code-1", "a/b.py") == []
    assert find(rules, "", "keys/me.P12") == [("pkcs12-file", None)]
    assert find(rules, "code-1", "") == []


@pytest.mark.parametrize(
    ("allowlist", "text", "path", "commit", "is_found"),
    [
        (GLOBAL + "paths = ['^vendor/']", "code-1", "vendor/a.py", "", False),
        (GLOBAL + "paths = ['^vendor/']", "code-1", "src/a.py", "", True),
        ("[allowlist]\npaths = ['^vendor/']", "code-1", "vendor/a.py", "", False),
        (GLOBAL + "commits = ['ABC ']", "code-1", "a.py", "abc", False),
        (GLOBAL + "commits = ['ABC']", "code-1", "a.py", "abd", True),
        (GLOBAL + "stopwords = ['Fake']", "code-1fake2", "a.py", "", False),
        (GLOBAL + "regexes = ['^1$']", "code-1", "a.py", "", False),
        (GLOBAL + "regexes = ['^code-']", "code-1", "a.py", "", True),
        (OWN + "regexTarget = 'match'\nregexes = ['^code-']", "code-1", "a.py", "", False),
        (OWN + "regexTarget = 'line'\nregexes = ['^ignore .* end$']", "a\nignore code-1 end\nb", "a.py", "", False),
        (OWN + "regexTarget = 'line'\nregexes = ['ignore']", "ignore\ncode-1\nignore", "a.py", "", True),
        (OWN + "regexes = ['^9$']\nstopwords = ['1']", "code-1", "a.py", "", False),
        (OWN + "condition = 'AND'\nregexes = ['^9$']\nstopwords = ['1']", "code-1", "a.py", "", True),
        (OWN + "condition = 'and'\npaths = ['^b']\nstopwords = ['1']", "code-1", "a.py", "", True),
        (OWN + "condition = '&&'\npaths = ['^a']\nstopwords = ['1']", "code-1", "a.py", "", False),
        (OWN + "condition = 'AND'\npaths = ['^a']\ncommits = ['c']", "code-1", "a.py", "d", True),
        (OWN + "condition = 'AND'\npaths = ['^a']\ncommits = ['c']", "code-1", "a.py", "c", False),
        (OWN + "condition = '||'\npaths = ['^a']\ncommits = ['c']", "code-1", "a.py", "d", False),
        ("[rules.allowlist]\nstopwords = ['1']", "code-1", "a.py", "", False),
        (GLOBAL + "targetRules = ['code']\nstopwords = ['1']", "code-1", "a.py", "", False),
    ],
)
def test_allowlists(tmp_path: Path, allowlist: str, text: str, path: str, commit: str, is_found: bool) -> None:
    is_top = allowlist.startswith(("[allowlist", "[[allowlist"))
    rules = load(tmp_path, f"{allowlist}\n{RULE}" if is_top else f"{RULE}{allowlist}\n")
    assert bool(find(rules, text, path, commit)) == is_found


def test_a_multi_part_rule_asks_for_its_parts_nearby(tmp_path: Path) -> None:
    rules = load(
        tmp_path,
        RULE
        + "[[rules.required]]\nid = 'user'\nwithinLines = 2\nwithinColumns = 5\n"
        + "[[rules]]\nid = 'user'\nregex = 'user-'\nskipReport = true\n",
    )
    assert find(rules, "user-\n\ncode-1") == [("code", 3)]
    assert find(rules, "user-\n\n\ncode-1") == []
    assert find(rules, "user-\n\n      code-1") == []
    assert find(rules, "code-1") == []


PLACES = st.tuples(st.integers(1, 6), st.integers(0, 9))
WITHIN = st.none() | st.integers(0, 4)


@given(PLACES, st.lists(PLACES, unique=True).map(sorted), WITHIN, WITHIN)
def test_a_part_is_near_where_any_of_its_places_is(
    place: tuple[int, int], others: list[tuple[int, int]], lines: int | None, columns: int | None
) -> None:
    def is_near(other: tuple[int, int]) -> bool:
        apart = [abs(a - b) for a, b in zip(place, other, strict=True)]
        return all(most is None or gap <= most for gap, most in zip(apart, (lines, columns), strict=True))

    assert safety._has_near(place, others, Required("part", lines, columns)) is any(map(is_near, others))


def test_extending_merges_as_in_gitleaks(tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text("[[rules]]\nid = 'deep'\nregex = 'deep'\n" + RULE.replace("code-", "core-"))
    (tmp_path / "base.toml").write_text(
        "[extend]\npath = 'deep.toml'\n"
        + RULE
        + "[[rules]]\nid = 'other'\nregex = 'other'\n[[rules]]\nid = 'third'\nregex = 'third'\n"
    )
    rules = load(
        tmp_path,
        "[extend]\npath = 'base.toml'\ndisabledRules = ['other']\n"
        "[[rules]]\nid = 'code'\nentropy = 1.0\nallowlists = [{stopwords = ['fake']}]\n"
        "[[allowlists]]\ntargetRules = ['deep']\nstopwords = ['deep']\n",
    )
    assert find(rules, "other third deep") == [("third", 1)]
    assert find(rules, "code-1") == []
    assert find(rules, "code-123") == [("code", 1)]
    assert find(rules, "code-123fake") == []
    assert find(rules, "core-1") == []


def test_extending_ends_where_gitleaks_ends(tmp_path: Path) -> None:
    for depth in range(3):
        extends = f"[extend]\npath = '{depth + 1}.toml'\n"
        (tmp_path / f"{depth}.toml").write_text(f"{extends}[[rules]]\nid = 'r{depth}'\nregex = 'x'\n")
    assert [rule.rule_id for rule in load_secret_rules(str(tmp_path / "0.toml")).rules] == ["r2", "r1", "r0"]
    circle = load(tmp_path, "[extend]\npath = 'rules.toml'\n" + RULE)
    assert find(circle, "code-1") == [("code", 1)]


def test_keys_in_any_case_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    rules = load(tmp_path, "\ufeff[[Rules]]\nID = 'x'\nRegex = '(a)(b)'\nSecretGroup = 2\nKeyWords = ['A']\n")
    assert find(rules, "ab") == [("x", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rules]]\nid = 'x'\nregex = 'a(b'\n", r"rules\.toml: rule 'x': regex 'a\(b' is no RE2 pattern: missing \)"),
        ("[[rules]]\nid = 'x'\nregex = '(?=a)'\n", r"rule 'x': regex .* is no RE2 pattern: invalid perl operator"),
        ("[[rules]]\nid = 'x'\npath = '[a'\n", r"rule 'x': path .* is no RE2 pattern"),
        (RULE + OWN + "regexes = ['a', '*']", r"rule 'code': allowlist regex '\*' is no RE2 pattern"),
        ("[[rules]]\nid = 'x'\nregx = 'a'\n", r"rule 'x': unknown key 'regx'; did you mean 'regex'\? known: id, desc"),
        ("rulez = 1\n" + RULE, r"rules\.toml: the configuration: unknown key 'rulez'"),
        (RULE + OWN + "pathes = ['a']", r"rule 'code': allowlist: unknown key 'pathes'; did you mean 'paths'"),
        (RULE + OWN + "description = 'a'", "rule 'code': an allowlist needs one of"),
        (RULE + OWN + "condition = 'xor'\npaths = ['a']", "condition = 'xor'; wanted one of 'AND'"),
        (RULE + OWN + "regexTarget = 'file'\npaths = ['a']", "regexTarget = 'file'; wanted one of 'secret', 'match'"),
        ("[[rules]]\nregex = 'a'\n", "rule number 1 has no id"),
        ("[[rules]]\nid = 'x'\n", "rule 'x' has neither regex nor path"),
        ("[[rules]]\nid = 'x'\nregex = 'a'\nsecretGroup = 1\n", "rule 'x': secretGroup 1, but its regex has 0 groups"),
        ("[[rules]]\nid = 'x'\nregex = 'a'\nentropy = 'much'\n", "rule 'x': entropy = 'much'; wanted a number"),
        ("[[rules]]\nid = 'x'\nregex = 'a'\nkeywords = [1]\n", "rule 'x': keywords = .*; wanted a list of texts"),
        (RULE + "[[rules.required]]\nid = 'y'\n", "rule 'code' requires 'y', which does not exist"),
        (GLOBAL + "targetRules = ['y']\npaths = ['a']\n" + RULE, "target rule 'y' does not exist"),
        ("[allowlist]\npaths=['a']\n[[allowlists]]\npaths=['b']\n", "older form"),
        ("[extend]\nuseDefault = true\n", "gitleaks' own table, which is not shipped here"),
        ("[extend]\nurl = 'https://a.b'\n", "asks no network"),
        ("[extend]\npath = 'nowhere.toml'\n", "nowhere.toml: the secret rules cannot be read"),
        ("[[rules]\n", r"rules\.toml: no TOML"),
        ("a = '\ud800'", "rules.toml: no TOML"),
    ],
)
def test_what_is_wrong_is_named_with_file_rule_and_reason(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match=message):
        load_secret_rules(str(path))


def test_a_changed_file_is_read_again_and_described_by_its_digest(tmp_path: Path) -> None:
    first = load(tmp_path, RULE)
    second = load(tmp_path, RULE.replace("code", "core"))
    assert find(second, "core-1 code-1") == [("core", 1)]
    assert first.describe() != second.describe()
    assert first.describe().startswith("secret rules: rules.toml, 1 rules, digest ")
    with pytest.raises(InputError, match="cannot be read"):
        load_secret_rules(str(tmp_path / "none.toml"))


@pytest.mark.parametrize("text", ["\0code-1\0", "\ud800 code-1", "é" * 9 + "code-1", "code-1" + "x" * 2_000_000])
def test_hostile_text_is_searched(tmp_path: Path, text: str) -> None:
    assert find(load(tmp_path, RULE), text, "\udcff.py") == [("code", 1)]


def test_a_file_of_rules_takes_the_place_of_ours(tmp_path: Path) -> None:
    rules = load(tmp_path, RULE)
    ours = "token = 'ghp_" + "a1B2c3D4e5F6" * 3 + "'"
    assert find_secrets(ours, rules=rules) == []
    assert find_secrets(ours)


def test_a_build_goes_by_the_operators_file(tmp_path: Path) -> None:
    load(tmp_path, RULE + "[[rules]]\nid = 'by-path'\npath = 'keys'\n")
    files: dict[str, str | bytes] = {"a.py": "x = 1  # plain code\n", "b.py": "y = 'code-7'\n", "keys.py": "z = 3\n"}
    choices = CorpusChoices(heldout_share=0.0, secret_rules=str(tmp_path / "rules.toml"))
    build_corpus([write(tmp_path / "repo", files)], tmp_path / "out", choices)
    dropped = {d.path: (d.stage, d.detail) for d in read_records(tmp_path / "out" / "dropped.parquet", DroppedFile)}
    assert dropped == {"b.py": ("safety", "code in line 1"), "keys.py": ("safety", "by-path by its path")}
