"""Names that a plug-in finds become consistent pseudonyms, code stays code, and a plug-in that fails is named."""

import ast
import itertools
import re
import sysconfig
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.corpus import name_plugins

from codegemma.corpus import names
from codegemma.corpus.names import describe_names_plugin, find_names, load_names_plugin
from codegemma.corpus.personal import apply_redactions, find_personal
from codegemma.errors import InputError

PLUGINS = "tests.corpus.name_plugins"


def redact(text: str, repo: str = "repo", key: str = "") -> str:
    return apply_redactions(text, find_names(text, name_plugins.find_names, repo, key, find_personal(text, repo, key)))


def test_names_become_names_of_like_form() -> None:
    redacted = redact("# Guido van Rossum, JÜRGEN, Jürgen Müller-Lüdenscheid\n")
    assert re.fullmatch(
        r"# [A-Z][a-z]{4} [a-z]{3} [A-Z][a-z]{5}, JÜRGEN, [A-Z][a-z]{5} [A-Z][a-z]{5}-[A-Z][a-z]{10}\n", redacted
    )


def test_a_pseudonym_hangs_on_key_repository_and_word_alone() -> None:
    first, second = redact("Ann Lee"), redact("x\n# Ann Lee, and Ann\n")
    assert second == f"x\n# {first}, and {first.split()[0]}\n"
    assert len({first, redact("Ann Lee", repo="other"), redact("Ann Lee", key="secret")}) == 3


def test_identifiers_are_renamed_everywhere_in_the_file_and_words_of_languages_never() -> None:
    code = "def jane_total(janet):\n    return super().jane + janet  # for jane\n\njane_total('\\njane')\n"
    redacted = redact(code)
    name = redacted[4:8]
    assert name != "jane"
    assert redacted == re.sub(r"jane(?!t)", name, code)


def test_a_name_does_not_stay_because_a_longer_one_begins_alike() -> None:
    text = "Ann Lee, Ann Leeson\n"
    found = find_names(text, lambda _: [(0, 7), (9, 12)], "repo")
    assert [text[r.start : r.end] for r in found] == ["Ann Lee", "Ann"]


def test_what_is_redacted_already_is_left() -> None:
    text = "# Ann Lee <Ann.Lee@corp.de>\n"
    found = find_names(text, name_plugins.find_names, "repo", "", find_personal(text, "repo"))
    assert [r.kind for r in found] == ["name", "email"]
    assert "Ann" not in apply_redactions(text, found)


def test_real_code_parses_the_same_after_replacement() -> None:
    changed = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        redacted = redact(text)
        if redacted != text:
            changed += 1
            shapes = [[type(node) for node in ast.walk(ast.parse(source))] for source in (text, redacted)]
            assert shapes[0] == shapes[1], path
            assert text.count("\n") == redacted.count("\n")
    assert changed > 20


def test_plugin_is_loaded_only_when_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_names_plugin(None) is None
    assert load_names_plugin(f"{PLUGINS}:find_names") is name_plugins.find_names
    assert describe_names_plugin(f"{PLUGINS}:find_names") == f"names of people: plug-in {PLUGINS}:find_names"
    installed = EntryPoints([EntryPoint("listed", f"{PLUGINS}:find_names", "codegemma.names")])
    monkeypatch.setattr(names, "entry_points", lambda group: installed.select(group=group))
    load_names_plugin.cache_clear()
    assert load_names_plugin("listed") is name_plugins.find_names
    with pytest.raises(InputError, match="'missing' is unknown; wanted module:function or one of: listed"):
        load_names_plugin("missing")
    load_names_plugin.cache_clear()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "'missing' is unknown; wanted module:function or one of: none is installed"),
        ("no.such.module:f", "'no.such.module:f' cannot be loaded: ModuleNotFoundError"),
        (f"{PLUGINS}:nowhere", "cannot be loaded: AttributeError"),
        (f"{PLUGINS}:NOT_A_FUNCTION", "is int; wanted a function of a text"),
        (":f", "cannot be loaded"),
    ],
)
def test_plugin_that_cannot_be_loaded_is_named(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_names_plugin(name)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("fail", "KeyError: 'no model here'"),
        ("leave_the_text", r"ValueError: span \(0, 8\); wanted 0 <= start < end <= 7"),
        ("turn_round", r"span \(3, 1\)"),
        ("give_words", "ValueError|TypeError"),
        ("give_nothing", "TypeError"),
    ],
)
def test_plugin_that_fails_is_named(function: str, message: str) -> None:
    with pytest.raises(
        InputError, match=f"names plug-in {PLUGINS}:{function} failed on a text of 7 characters: .*{message}"
    ):
        find_names("Ann Lee", getattr(name_plugins, function), "repo")


@given(
    st.lists(st.sampled_from([*name_plugins.FIRST_NAMES, "Lee", " ", "\n", "\\", "\\n", "_", "é", "\ud800", "2", "x"])),
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9))),
)
def test_only_letters_change_and_nothing_crashes(parts: list[str], spans: list[tuple[int, int]]) -> None:
    text = "".join(parts)
    wanted = [(start, start + size) for start, size in spans if start + size <= len(text)]
    redactions = find_names(text, lambda _: wanted, "repo")
    redacted = apply_redactions(text, redactions)
    assert all(a.end <= b.start for a, b in itertools.pairwise(redactions))
    other = r"[^\W\d_]+"
    assert re.sub(other, "a", redacted) == re.sub(other, "a", text)
