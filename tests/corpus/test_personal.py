"""Personal data: what is found and what is left, that pseudonyms are consistent, keyed and nobody's."""

import ast
import ipaddress
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.corpus.repositories import write

from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.personal import apply_redactions, find_personal
from codegemma.corpus.pipeline import build_corpus
from codegemma.errors import InputError
from codegemma.records import SourceFile
from codegemma.shards import read_records

FOUND = [
    ("# Author: jane.doe@corp-mail.de", "email", "jane.doe@corp-mail.de"),
    ("mail=<j_smith+spam@cs.brown.edu>,", "email", "j_smith+spam@cs.brown.edu"),
    ('"é – ü: MAX.MUSTER@FIRMA.CH."', "email", "MAX.MUSTER@FIRMA.CH"),
    ("HOST = '93.184.216.34'", "ip_address", "93.184.216.34"),
    ("connect(185.199.108.153:443)", "ip_address", "185.199.108.153"),
    ("v6 = '2606:2800:220:1:248:1893:25c8:1946'", "ip_address", "2606:2800:220:1:248:1893:25c8:1946"),
    ("ping 2a00:1450:4001:81b::200e now", "ip_address", "2a00:1450:4001:81b::200e"),
    ("tel: +49 30 1234 5678", "phone", "+49 30 1234 5678"),
    ("call +1 (212) 867-5309.", "phone", "+1 (212) 867-5309"),
]
LEFT = [
    "y = weights@self.x", "z = ab@cd.mT", "@decorator.name", "git@github.com:owner/repo.git", "you@example.com",
    "someone@host.test", "icon@2x.png", "user@localhost", "x = a[1::2] + b[::3]", "t = '12:34:56'",
    "mac = 'aa:bb:cc:dd:ee:ff'", "version 1.120.3.4", "v10.200.1.5", "lib==1.200.3.4", "section 8.2.4.44",
    "127.0.0.1", "10.0.0.1", "192.168.1.100", "255.255.255.255", "8.8.8.8", "192.0.2.17", "999.1.1.1",
    "52.216.0.0/15", "224.0.0.251", "1.2.3.456.7", "x +12 - 34", "n = +1234567890", "+1 555 123 4567",
    "std::vector<int>::iterator", "2001:db8::1",
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "value"), FOUND)
def test_personal_data_is_found_whole(text: str, kind: str, value: str) -> None:
    assert [(r.kind, text[r.start : r.end]) for r in find_personal(text, "repo")] == [(kind, value)]


@pytest.mark.parametrize("text", LEFT)
def test_what_only_looks_like_it_is_left(text: str) -> None:
    assert find_personal(text, "repo") == []


def test_pseudonyms_are_nobodys_and_keep_the_form() -> None:
    for text, kind, value in FOUND:
        (redaction,) = find_personal(text, "repo")
        new = redaction.replacement
        if kind == "email":
            assert re.fullmatch(r"[a-z0-9._+-]+@example\.(com|org|net)", new)
            assert len(new.partition("@")[0]) == len(value.partition("@")[0])
        elif kind == "ip_address":
            assert not ipaddress.ip_address(new).is_global
            assert (":" in new) == (":" in value)
        else:
            assert re.sub(r"\d", "0", new) == re.sub(r"\d", "0", value)
            assert "555" in re.sub(r"\D", "", new)


def test_a_pseudonym_hangs_on_key_repository_and_value_alone() -> None:
    def invent(value: str, repo: str = "repo", key: str = "", before: str = "") -> str:
        return find_personal(f"{before}{value}", repo, key)[-1].replacement

    for value in ("jane.doe@corp.de", "93.184.216.34", "+49 30 1234 5678"):
        first = invent(value)
        assert invent(value, before="ü jan@corp.de and\n") == first
    assert invent("jane.doe@corp.de") == invent("Jane.Doe@corp.de")
    for value in ("jane.doe@corp.de", "2606:2800:220:1:248:1893:25c8:1946"):
        assert len({invent(value), invent(value, repo="other"), invent(value, key="secret")}) == 3
    assert len({invent(f"person{i:02}@corp.de") for i in range(100)}) > 95


@given(
    st.lists(st.sampled_from([text for text, _, _ in FOUND] + LEFT + ["\n", "é", "\ud800", "\0", "🐍 "]), max_size=30)
)
def test_redacting_leaves_the_rest_alone_and_finds_nothing_more(parts: list[str]) -> None:
    text = " ".join(parts)
    redactions = find_personal(text, "repo")
    assert all(a.end <= b.start for a, b in itertools.pairwise(redactions))
    redacted = apply_redactions(text, redactions)
    position = 0
    for redaction in redactions:
        kept = text[position : redaction.start] + redaction.replacement
        assert redacted.startswith(kept)
        redacted, position = redacted[len(kept) :], redaction.end
    assert redacted == text[position:]
    assert find_personal(apply_redactions(text, redactions), "repo") == []


@given(st.text())
def test_no_text_crashes_it(text: str) -> None:
    assert apply_redactions(text, find_personal(text, "repo")).count("\n") == text.count("\n")


def test_real_code_parses_the_same_after_redaction() -> None:
    import email

    changed = 0
    for path in sorted(Path(str(email.__file__)).parent.parent.glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        redacted = apply_redactions(text, find_personal(text, "repo"))
        changed += redacted != text
        if redacted != text:
            shapes = [[type(node) for node in ast.walk(ast.parse(source))] for source in (text, redacted)]
            assert shapes[0] == shapes[1], path
    assert changed > 5


def test_no_planted_datum_reaches_the_corpus_and_its_line_is_noted(tmp_path: Path) -> None:
    """Recall by kind, over values drawn far from the patterns' own examples."""
    hosts = ("uni-bonn.de", "mail.corp.co.uk", "startup.io", "gov.br.com")
    values = {
        "email": [f"{a}.{b}@{host}" for a in ("ana", "li", "jo") for b in ("roe", "k2", "van-x") for host in hosts],
        "ip_address": [f"{a}.{b}.{c}.{d}" for a in (5, 84, 203) for b in (111, 9) for c in (4, 250) for d in (7, 199)],
        "phone": [
            f"+{c} {a} {b} {d}" for c in (33, 44, 7) for a in (20, 495) for b in (7946, 123) for d in ("0958", "77")
        ],
    }
    files: dict[str, str | bytes] = {}
    for kind, planted in values.items():
        for i, value in enumerate(planted):
            files[f"{kind}/m{i}.py"] = f"def f{i}(x):\n    # contact: {value}\n    return x + {i} * len('{kind}')\n"
    build_corpus([write(tmp_path / "repo", files)], tmp_path / "out", CorpusChoices(heldout_share=0.0))
    leaked: dict[str, int] = dict.fromkeys(values, 0)
    for file in read_records(tmp_path / "out" / "files-train.parquet", SourceFile):
        kind, number = file.path.split("/m")
        value = values[kind][int(number.removesuffix(".py"))]
        leaked[kind] += value in file.text
        assert value in file.text or file.redactions == (f"{kind}:2",)
    assert leaked["email"] == 0
    assert leaked["ip_address"] <= 0.1 * len(values["ip_address"])
    assert leaked["phone"] == 0


def test_key_and_choice_make_another_build_and_the_key_is_written_nowhere(tmp_path: Path) -> None:
    repo = write(tmp_path / "repo", {"a.py": "# jane.doe@corp.de\nx = 'a long enough line of code'\n"})
    key = tmp_path / "key.txt"
    key.write_text("correct horse battery staple")

    def build(**choices: object) -> str:
        report = build_corpus([repo], tmp_path / "out", CorpusChoices(heldout_share=0.0, **choices))  # type: ignore[arg-type]
        assert report.redactions == ({} if choices.get("replace_personal") is False else {"email": 1})
        (file,) = read_records(tmp_path / "out" / "files-train.parquet", SourceFile)
        return file.text

    texts = [build(), build(pseudonym_key_file=str(key)), build(replace_personal=False)]
    key.write_text("another")
    texts.append(build(pseudonym_key_file=str(key)))
    assert len(set(texts)) == 4
    assert "jane.doe@corp.de" in texts[2]
    assert all(b"battery" not in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    for content in ("", " \n"):
        key.write_text(content)
        with pytest.raises(InputError, match="is empty"):
            build(pseudonym_key_file=str(key))
    with pytest.raises(InputError, match="cannot be read"):
        build(pseudonym_key_file=str(tmp_path / "none"))
