"""Lists documents: text, Markdown, JSON Lines, and mathematics and synthetic code in their public formats.

**In**: `.txt`, `.md`, `.json`, `.jsonl` (also `.gz` and `.zst`), or a folder of them.
**Out**: a `Listing` with one entry per document, whose `language_hint` says what is in it.
**Not**: repositories (`listing.py`, `parquet.py`), or cleaning: a web page must have been turned into text before.

A record of JSON holds its document in `text` or `content`, which is code if its `language` or `lang` is a programming
language; or in two fields, as GSM8K, MATH, MathQA, MetaMathQA and sets of instructions do (`_PAIRS`). Records are read
through once; their documents wait in a scratch file. What is no record is a refused entry.
"""

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa

from codegemma.corpus.contents import DiskFile, NoContent, Spool
from codegemma.corpus.copies import UNREACHABLE, UnreachableError, find_local
from codegemma.corpus.entries import Content, Listing, escape_path
from codegemma.corpus.licenses import join_stated
from codegemma.corpus.members import Member, list_members
from codegemma.errors import DamagedError
from codegemma.folders import walk_visible
from codegemma.records import SourceKind
from codegemma.text.languages import DOCUMENT_LANGUAGES, LANGUAGES, detect_language, find_language

TEXT, MARKDOWN, MATH = DOCUMENT_LANGUAGES
KIND_OF_DOCUMENT = MappingProxyType({TEXT: SourceKind.TEXT, MARKDOWN: SourceKind.TEXT, MATH: SourceKind.MATHEMATICS})
_PLAIN_SUFFIXES = {".txt": TEXT, ".md": MARKDOWN}
_RECORD_SUFFIXES = (".json", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".json.gz", ".json.zst")
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
SUFFIXES = (*_PLAIN_SUFFIXES, *_RECORD_SUFFIXES)
# A longer line of JSON Lines, or a longer file of JSON, is not read.
MAX_RECORD_BYTES = 32 * 2**20
# A file that unpacks to more than this many times its size is an attack; one below a GB can do no harm.
MAX_EXPANSION = 1_000
MIN_BOMB_BYTES = 2**30
# Of a file that breaks off, at most so much before the break is lost.
_BUFFER_BYTES = 2**16
# Fields that make a document together, and what it is where the user does not say: of GSM8K, MATH, MathQA and
# MetaMathQA, and of instructions and what a model made of them, such as Evol-Instruct and Code Alpaca.
_PAIRS = {
    ("question", "answer"): MATH,
    ("problem", "solution"): MATH,
    ("Problem", "Rationale"): MATH,
    ("query", "response"): MATH,
    ("instruction", "response"): MARKDOWN,
    ("instruction", "output"): MARKDOWN,
}
_PAIR_LANGUAGE = MappingProxyType({SourceKind.SYNTHETIC: MARKDOWN, SourceKind.MATHEMATICS: MATH})
# GSM8K notes for a calculator: `48/2 = <<48/2=24>>24`.
_CALCULATION = re.compile(r"<<[^<>\n]*>>")


def is_document(path: Path) -> bool:
    """Say whether a path is a file of documents, or a folder, not of git and without code, most of whose files are."""
    path = Path(path)
    if not path.is_dir():
        return path.name.lower().endswith(SUFFIXES) and path.is_file()
    if (path / ".git").exists() or (path / "HEAD").exists():
        return False
    files = documents = 0
    for name, _ in walk_visible(path):
        if detect_language(name, "") is not None:
            return False
        files += 1
        documents += name.lower().endswith(SUFFIXES)
    return 2 * documents > files


def list_documents(
    path: Path,
    language: str = TEXT,
    scratch: Path | None = None,
    kind: SourceKind | None = None,
    files: Sequence[tuple[str, Path]] | None = None,
    fetch: Callable[[Path], Path] = find_local,
) -> Listing:
    """List the documents of a file or a folder; `language` is that of records which do not show it.

    `kind` is what the user calls them: a question and its answer are mathematics, but not among synthetic code. Where
    `files` are given, with their names, `path` names the input alone, and `fetch` gives each when it is read.

    Raises:
        DamagedError: there is no document.
    """
    is_folder = files is None and path.is_dir()
    name = (path if files is not None else path.resolve()).name
    if files is None:
        files = list(walk_visible(path)) if is_folder else [(path.name, path)]
    with Spool(scratch) as spool:
        members = [
            member for name, file in files for member in _fetch_and_list(name, file, language, spool, kind, fetch)
        ]
    if all(member.refusal is not None and member.refusal[0] != UNREACHABLE for member in members):
        reason = next((f"{m.name}: {m.refusal[1]}" for m in members if m.refusal), "no file")
        raise DamagedError(f"{path}: no document in it ({reason}); wanted one of {', '.join(SUFFIXES)}")
    repo = next((name[: -len(s)] for s in SUFFIXES[::-1] if not is_folder and name.lower().endswith(s)), name)
    return Listing(escape_path(repo) or "documents", None, tuple(list_members(members)), kind=kind)


def _fetch_and_list(
    name: str, file: Path, language: str, spool: Spool, kind: SourceKind | None, fetch: Callable[[Path], Path]
) -> Iterator[Member]:
    try:
        yield from _list_file(name, fetch(file), language, spool, kind)
    except UnreachableError as error:
        yield _refuse(name, UNREACHABLE, str(error))


def _list_file(name: str, file: Path, language: str, spool: Spool, kind: SourceKind | None) -> Iterator[Member]:
    if not file.is_file():
        yield _refuse(name, "not_regular", "a pipe, socket or device, or a link that leads nowhere")
        return
    plain = next((kind for suffix, kind in _PLAIN_SUFFIXES.items() if name.lower().endswith(suffix)), None)
    facts = file.stat()
    stamp = f"{facts.st_mtime_ns}:{facts.st_size}"
    if plain is not None:
        resolved = file.resolve()  # reading follows no link
        content = DiskFile(str(resolved.parent), resolved.name)
        hint = language if plain == TEXT else plain
        yield Member(name, facts.st_size, stamp, None, content, language_hint=hint)
    elif name.lower().endswith(_RECORD_SUFFIXES):
        yield from _list_records(name, file, stamp, language, spool, kind)
    else:
        yield _refuse(name, "language", "no document")


def _refuse(name: str, reason: str, detail: str) -> Member:
    content: Content = NoContent()
    return Member(name, 0, reason, (reason, detail), content)


# --- records ----------------------------------------------------------------------------------------------------------


class _Document(NamedTuple):
    text: str
    language: str
    license: str | None


def _list_records(
    name: str, file: Path, stamp: str, language: str, spool: Spool, kind: SourceKind | None
) -> Iterator[Member]:
    number = 0
    try:
        for number, record in enumerate(_read_records(file), start=1):
            try:
                document = read_record(record, language, kind)
                content = document.text.encode()
            except ValueError as error:
                yield _refuse(f"{name}:{number}", "record", str(error))
            else:
                part = spool.keep(content)
                yield Member(
                    f"{name}:{number}{_name_extension(document.language)}",
                    len(content),
                    f"{stamp}:{number}",
                    None,
                    part,
                    document.license,
                    document.language,
                )
    except (OSError, EOFError, ValueError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        yield _refuse(f"{name} (the rest after record {number})", "truncated", reason)


def _read_records(file: Path) -> Iterator[bytes]:
    """Read the lines of JSON Lines, or the file of JSON; a line that is too long comes cut."""
    compression = next((kind for suffix, kind in _COMPRESSIONS.items() if file.name.lower().endswith(suffix)), None)
    most_bytes = max(MIN_BOMB_BYTES, MAX_EXPANSION * file.stat().st_size)
    with io.BufferedReader(pa.input_stream(str(file), compression=compression), _BUFFER_BYTES) as stream:
        if ".jsonl" not in file.name.lower():
            yield from _split_json(stream.read(MAX_RECORD_BYTES + 1))
            return
        while line := stream.readline(MAX_RECORD_BYTES + 1):
            most_bytes -= len(line)
            rest = line
            while len(rest) > MAX_RECORD_BYTES and not rest.endswith(b"\n"):
                rest = stream.readline(MAX_RECORD_BYTES + 1)
                most_bytes -= len(rest)
                if most_bytes < 0:
                    break
            if most_bytes < 0:
                raise ValueError("it unpacks to too much")
            if line.strip():
                yield line


def _split_json(content: bytes) -> Iterator[bytes]:
    """Give one record, or those of an array."""
    try:
        parsed = json.loads(content) if len(content) <= MAX_RECORD_BYTES else None
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, list):
        yield content
        return
    for record in parsed:
        yield json.dumps(record).encode()


def _name_extension(language: str) -> str:
    """Give code the extension that says its language, so that the path reads as any other."""
    known = LANGUAGES.get(language)
    return "" if known is None else known.extensions[0]


def read_record(line: bytes, language: str = TEXT, kind: SourceKind | None = None) -> _Document:
    r"""Read the document of one record.

    >>> read_record(b'{"question": "1 + 1?", "answer": "1 + 1 = <<1+1=2>>2\\n#### 2"}')
    _Document(text='1 + 1?\n\n1 + 1 = 2\n#### 2\n', language='math', license=None)
    >>> read_record(b'{"content": "x = 1", "lang": "Python"}').language
    'python'

    Raises:
        ValueError: too long, not JSON, or without a document; it lists the fields that were found.
    """
    if len(line) > MAX_RECORD_BYTES:
        raise ValueError(f"longer than {MAX_RECORD_BYTES} bytes")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON in UTF-8: {error}") from error
    if not isinstance(record, dict):
        raise ValueError("JSON, but no object")
    license = join_stated(_list_names(record.get("license")))
    for name in ("text", "content"):
        if isinstance(record.get(name), str):
            return _Document(record[name], _find_code_language(record) or language, license)
    for (first, second), pair_language in _PAIRS.items():
        if isinstance(record.get(first), str) and isinstance(record.get(second), str):
            text = f"{record[first].strip()}\n\n{_CALCULATION.sub('', record[second]).strip()}\n"
            return _Document(text, _PAIR_LANGUAGE.get(kind, pair_language) if kind else pair_language, license)
    came = ", ".join(escape_path(name[:40]) for name in list(record)[:9]) or "none"
    pairs = ", ".join(f"{first} and {second}" for first, second in _PAIRS)
    raise ValueError(f"no text, no content, and none of {pairs}; found fields {came}")


def _find_code_language(record: dict[str, Any]) -> str | None:
    names = (record.get(name) for name in ("language", "lang"))
    found = (find_language(name) for name in names if isinstance(name, str))
    return next((language.name for language in found if language is not None), None)


def _list_names(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(name for name in values if isinstance(name, str) and name.isprintable())
