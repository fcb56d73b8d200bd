"""Documents come one by one from the formats in which text and mathematics are published; what is none is named."""

import gzip
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.corpus.repositories import commit, write

from codegemma.corpus import documents
from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.documents import is_document, list_documents, read_record
from codegemma.corpus.inputs import Input, list_repositories
from codegemma.corpus.read import read_listing
from codegemma.errors import InputError
from codegemma.records import DroppedFile, SourceFile, SourceKind
from codegemma.text.languages import DOCUMENT_LANGUAGES, LANGUAGES

CHOICES = CorpusChoices()
RECORDS = [{"text": "One é.\n", "license": "mit"}, {"content": "Two.\n"}, {"text": "Three.\n", "id": 3}]


def make_lines(*records: Any) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def read(path: Path, document_language: str = "text") -> list[SourceFile | DroppedFile]:
    listings = list_repositories([path], document_language=document_language)
    assert pickle.loads(pickle.dumps(listings)) == listings  # noqa: S301  # our own, from a line above
    return [result for listing in listings for result in read_listing(listing, CHOICES)]


@pytest.mark.parametrize("compression", [None, "gz", "zst"])
def test_every_line_is_a_document_with_its_licence(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / ("web.jsonl" if compression is None else f"web.jsonl.{compression}")
    kind = {"gz": "gzip", "zst": "zstd"}.get(compression or "")
    with pa.output_stream(str(path), compression=kind) as stream:
        stream.write(make_lines(*RECORDS).replace(b"\n", b"\r\n\n"))
    files = [(r.repo, r.path, r.language, r.text, r.license) for r in read(path) if isinstance(r, SourceFile)]
    assert files == [
        ("web", f"{path.name}:1", "text", "One é.\n", "MIT"),
        ("web", f"{path.name}:2", "text", "Two.\n", None),
        ("web", f"{path.name}:3", "text", "Three.\n", None),
    ]


def test_a_file_of_two_compressed_parts_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "web.jsonl.gz"
    path.write_bytes(gzip.compress(make_lines(RECORDS[0])) + gzip.compress(make_lines(RECORDS[1])))
    assert len([r for r in read(path) if isinstance(r, SourceFile)]) == 2


def test_math_is_known_by_its_fields(tmp_path: Path) -> None:
    gsm8k = {"question": "Half of 48?", "answer": "48/2 = <<48/2=24>>24\n#### 24"}
    math = {"problem": "Is $1<2$?", "level": "Level 1", "type": "Algebra", "solution": r"\boxed{yes}"}
    write(tmp_path / "set", {"gsm8k/train.jsonl": make_lines(gsm8k), "MATH/train/algebra/1.json": json.dumps(math)})
    assert [(r.path, r.language, r.text) for r in read(tmp_path / "set") if isinstance(r, SourceFile)] == [
        ("MATH/train/algebra/1.json:1", "math", "Is $1<2$?\n\n\\boxed{yes}\n"),
        ("gsm8k/train.jsonl:1", "math", "Half of 48?\n\n48/2 = 24\n#### 24\n"),
    ]


PAIRS = [
    ({"Problem": "1 + 1?", "Rationale": "It is 2."}, None, "math"),
    ({"query": "1 + 1?", "response": "It is 2."}, None, "math"),
    ({"instruction": "Add.", "response": "x + y"}, None, "markdown"),
    ({"instruction": "Add.", "output": "x + y"}, SourceKind.MATHEMATICS, "math"),
    ({"problem": "Add.", "solution": "x + y", "lang": "python"}, SourceKind.SYNTHETIC, "markdown"),
    ({"question": "1?", "answer": "1"}, SourceKind.TEXT, "math"),
]


@pytest.mark.parametrize(("record", "kind", "language"), PAIRS)
def test_pairs_of_fields_are_known_from_public_sets_and_are_what_the_user_calls_them(
    record: dict[str, str], kind: SourceKind | None, language: str
) -> None:
    document = read_record(json.dumps(record).encode(), kind=kind)
    first, second = list(record.values())[:2]
    assert (document.text, document.language) == (f"{first}\n\n{second}\n", language)


def test_code_in_records_is_code_in_its_language_and_has_a_path_that_says_so(tmp_path: Path) -> None:
    codes = [{"content": "x = 1\n", "language": "Python"}, {"text": "int x;\n", "lang": "C++"}]
    path = write(tmp_path, {"made.jsonl": make_lines(*codes, {"text": "Prose.\n", "language": "en"})}) / "made.jsonl"
    kinds = {
        SourceKind.SYNTHETIC: [SourceKind.SYNTHETIC] * 3,
        None: [SourceKind.CODE, SourceKind.CODE, SourceKind.TEXT],
    }
    for kind, wanted in kinds.items():
        (listing,) = list_repositories([Input(path, SourceKind(kind) if kind else None)])
        files = [file for file in read_listing(listing, CHOICES) if isinstance(file, SourceFile)]
        assert [(file.path, file.language) for file in files] == [
            ("made.jsonl:1.py", "python"),
            ("made.jsonl:2.cc", "cpp"),
            ("made.jsonl:3", "text"),
        ]
        assert [file.kind for file in files] == wanted


def test_plain_files_an_array_and_a_table_of_documents_are_read(tmp_path: Path) -> None:
    write(tmp_path / "set", {"a.md": "# A\n", "b.TXT": "b\n", "c.json": json.dumps(RECORDS), "d.png": b"\x89PNG"})
    results = read(tmp_path / "set", "math")
    assert [(r.path, r.language) for r in results if isinstance(r, SourceFile)] == [
        ("a.md", "markdown"),
        ("b.TXT", "math"),
        *((f"c.json:{number}", "math") for number in (1, 2, 3)),
    ]
    assert [(r.path, r.reason) for r in results if isinstance(r, DroppedFile)] == [("d.png", "language")]
    pq.write_table(pa.table({"url": ["http://x", None], "text": ["One.\n", "Two.\n"]}), tmp_path / "web.parquet")
    assert [
        (r.path, r.language, r.text) for r in read(tmp_path / "web.parquet", "math") if isinstance(r, SourceFile)
    ] == [
        ("web.parquet:0:0", "math", "One.\n"),
        ("web.parquet:0:1", "math", "Two.\n"),
    ]


def test_repository_is_not_taken_for_documents(tmp_path: Path) -> None:
    write(tmp_path / "code", {"a.py": "x = 1\n", **{f"{n}.json": "{}" for n in range(9)}})
    commit(write(tmp_path / "git", {f"{n}.md": "# A\n" for n in range(9)}))
    assert not is_document(tmp_path / "code")
    assert not is_document(tmp_path / "git")
    assert not is_document(tmp_path / "none.txt")


BAD_LINES = [
    (b"{", "not JSON"),
    (b"\xff", "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b"9" * 10_000, "not JSON"),
    (b"[]", "no object"),
    (b'{"title": "x", "text": null}', "found fields title, text"),
    (b'{"question": "x"}', "found fields question"),
    (b'{"text": "\\ud800"}', "surrogates not allowed"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_line_that_is_no_document_is_dropped_with_its_number_and_the_next_is_read(
    tmp_path: Path, line: bytes, message: str
) -> None:
    path = write(tmp_path, {"web.jsonl": line + b"\n" + make_lines(RECORDS[1])}) / "web.jsonl"
    drop, kept = read(path)
    assert isinstance(drop, DroppedFile)
    assert isinstance(kept, SourceFile)
    assert (drop.path, drop.reason) == ("web.jsonl:1", "record")
    assert message in drop.detail
    assert kept.text == "Two.\n"


def test_contents_that_are_no_text_are_dropped_as_code_would_be(tmp_path: Path) -> None:
    lines = make_lines({"text": "a\0"}, {"text": " "}, {"text": "x" * 2_000_000})
    write(tmp_path / "set", {"a.jsonl": lines, "b.txt": b"caf\xe9"})
    reasons = [r.reason for r in read(tmp_path / "set") if isinstance(r, DroppedFile)]
    assert reasons == ["binary", "empty", "too_big", "undecodable"]


def test_line_that_is_too_long_is_dropped_and_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_RECORD_BYTES", 1_000)
    path = write(tmp_path, {"web.jsonl": make_lines({"text": "x" * 100_000}, RECORDS[1])}) / "web.jsonl"
    drop, kept = read(path)
    assert isinstance(drop, DroppedFile)
    assert isinstance(kept, SourceFile)
    assert "longer than 1000 bytes" in drop.detail


@pytest.mark.parametrize("name", ["web.jsonl.gz", "web.jsonl.zst"])
@pytest.mark.parametrize("damage", ["cut", "bomb", "long_line_bomb"])
def test_damaged_file_gives_what_stood_before_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    random_lines = make_lines(*({"text": os.urandom(300).hex()} for _ in range(1_000)))
    tail = {"cut": random_lines, "bomb": make_lines({"text": "x"}) * 50_000}
    content = make_lines(RECORDS[1]) + tail.get(damage, b"x" * 10_000_000)
    path = tmp_path / name
    with pa.output_stream(str(path), compression="gzip" if name.endswith("gz") else "zstd") as stream:
        stream.write(content)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    else:
        monkeypatch.setattr(documents, "MIN_BOMB_BYTES", 100_000)
        monkeypatch.setattr(documents, "MAX_EXPANSION", 2)
        monkeypatch.setattr(documents, "MAX_RECORD_BYTES", 10_000)
    first, *_, last = read(path)
    assert isinstance(first, SourceFile)
    assert isinstance(last, DroppedFile)
    assert first.text == "Two.\n"
    assert last.reason == "truncated"


@given(st.binary() | st.text().map(str.encode) | st.dictionaries(st.text(), st.text()).map(json.dumps).map(str.encode))
def test_any_line_is_a_document_or_refused(line: bytes) -> None:
    try:
        document = read_record(line)
    except ValueError as error:
        assert str(error)
    else:
        assert document.language in (*DOCUMENT_LANGUAGES, *LANGUAGES)


def test_unusable_inputs_say_what_to_do(tmp_path: Path) -> None:
    write(tmp_path, {"web.jsonl": b"", "bad.jsonl": b"{\n"})
    os.mkfifo(tmp_path / "pipe.txt")
    for name in ("web.jsonl", "bad.jsonl"):
        with pytest.raises(InputError, match=r"no document in it .*; wanted one of .txt, .md"):
            list_documents(tmp_path / name)
    write(tmp_path, {"a.txt": "A.\n"})
    reasons = {e.path: e.refusal and e.refusal[0] for e in list_documents(tmp_path).entries}
    assert reasons == {"a.txt": None, "bad.jsonl:1": "record", "pipe.txt": "not_regular"}
    with pytest.raises(ValueError, match="wanted one of text, markdown, math"):
        CorpusChoices(document_language="prose")
