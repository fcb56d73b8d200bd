"""Chooses snippets of a corpus for a model to be inspired by.

**In**: data folders that `codegemma build` wrote, packs, or single source files.
**Out**: `Seed`s with their provenance, the same for the same choices whatever the order of the corpus.
**Not**: the held-out side, which is not read; nor what a build does: a folder of source files is refused, since nobody
has looked for secrets and licences in it.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import xxhash

from codegemma.errors import InputError
from codegemma.records import Pack, PackedFile, SourceKind, Split
from codegemma.shards import find_output, read_records
from codegemma.synthesis.choices import SynthesisChoices
from codegemma.synthesis.outcomes import Seed
from codegemma.text.languages import detect_language
from codegemma.text.syntax import analyze_syntax

_PACKS_FILE = "packs-train.parquet"
# Fewer lines that say something inspire nothing.
_MIN_LINES = 3
_MAX_CHARS = 2000
_MAX_FILE_BYTES = 1_000_000


def read_seeds(sources: Sequence[Path], choices: SynthesisChoices) -> list[Seed]:
    """Choose the snippets, ordered by where they stand.

    Raises:
        InputError: a source that is no data folder, packs or source file, or no snippet in any of them.
    """
    drawn = heapq.nsmallest(choices.seeds, _draw(sources, choices), key=lambda found: (found[0], found[1].place))
    # A file may come in two packs, and one place may be drawn twice.
    seeds = {(*seed.place, seed.blob): seed for _, seed in drawn}
    if not seeds:
        named = ", ".join(map(str, sources))
        raise InputError(f"{named}: no snippet of {_MIN_LINES} lines of code in there; build from more code")
    return sorted(seeds.values(), key=lambda seed: (*seed.place, seed.blob))


def _draw(sources: Iterable[Path], choices: SynthesisChoices) -> Iterator[tuple[int, Seed]]:
    """Draw from each file, each snippet with a number that says how early it is chosen."""
    for source in sources:
        for pack in _read_packs(source):
            if pack.kind is not SourceKind.CODE:
                continue
            for file in pack.files:
                for number in range(choices.per_file):
                    name = f"{choices.seed}/{number}/{pack.repo}/{file.path}/{file.blob}"
                    key = xxhash.xxh3_64_intdigest(name.encode("utf-8", "surrogatepass"))
                    if seed := cut_snippet(pack, file, key, choices.snippet_lines):
                        yield key, seed


def cut_snippet(pack: Pack, file: PackedFile, key: int, most_lines: int) -> Seed | None:
    """Cut a snippet that begins where a block does, drawn by `key`; `None` where too little stands there."""
    starts = file.block_starts.tolist() or [0]
    start = starts[key % len(starts)]
    lines = file.text[start : start + _MAX_CHARS].splitlines(keepends=True)
    if start + _MAX_CHARS < len(file.text):
        lines = lines[:-1]  # which may be cut
    text = "".join(lines[:most_lines]).rstrip()
    if sum(any(map(str.isalnum, line)) for line in text.splitlines()) < _MIN_LINES:
        return None
    line = file.text.count("\n", 0, start) + 1
    return Seed(pack.repo, file.path, pack.commit, file.blob, file.license, line, file.language, text)


def _read_packs(source: Path) -> Iterator[Pack]:
    if source.is_dir() or source.suffix in (".parquet", ".arrayrecord"):
        packs = find_output(source, _PACKS_FILE)
        if not packs.exists():
            raise InputError(
                f"{source} holds no {_PACKS_FILE}; make it by `codegemma build REPO --out {source}`, which looks for "
                "secrets, licences and copies, or name single source files"
            )
        yield from read_records(packs, Pack)
        return
    yield _read_file(source)


def _read_file(path: Path) -> Pack:
    """Take a single file as a pack of its own, with neither licence nor commit."""
    try:
        content = path.read_bytes()[:_MAX_FILE_BYTES]
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a source file ({error}); name one, or a data folder") from error
    language = detect_language(path.name, text.partition("\n")[0])
    if language is None:
        raise InputError(f"{path}: its name is of no known language; name a source file, or a data folder")
    header = f"blob {len(content)}\0".encode()
    blob = hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
    syntax = analyze_syntax(text, language.name)
    file = PackedFile(path.name, language.name, text, blob, None, syntax.natural_cuts, syntax.block_starts)
    return Pack(blob, path.parent.name, None, Split.TRAIN, (file,))
