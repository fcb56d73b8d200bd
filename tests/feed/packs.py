"""Real packs for the tests of the feed: files of the standard library's json and email packages, and documents."""

import ast
import dataclasses
import email
import functools
import hashlib
import json
import re
from pathlib import Path

import numpy as np

from codegemma.records import Pack, PackedFile, SourceKind, Split


def make_file(path: str, text: str) -> PackedFile:
    """A file whose natural cuts are its line ends, and whose blocks begin at definitions and unindented lines."""
    line_ends = [i for i, char in enumerate(text) if char == "\n"]
    blocks = [0, *(i + 1 for i in line_ends if re.match(r"[^ \t\n]|    (def|@|class)", text[i + 1 : i + 10]))]
    return PackedFile(
        path=path,
        language="python",
        text=text,
        blob=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(),
        license=None,
        natural_cuts=np.array(line_ends, dtype=np.int32),
        block_starts=np.array(blocks, dtype=np.int32),
    )


@functools.cache
def standard_packs() -> tuple[Pack, ...]:
    """One pack for each package."""
    packs = []
    for module in (json, email):
        folder = Path(str(module.__file__)).parent
        files = [
            make_file(f"{folder.name}/{file.name}", file.read_bytes().decode())
            for file in sorted(folder.glob("*.py"))[:8]
            if file.stat().st_size
        ]
        packs.append(Pack(folder.name, "std", None, Split.TRAIN, tuple(files)))
    return tuple(packs)


@functools.cache
def mixed_packs() -> tuple[Pack, ...]:
    """The packs of code, and packs of text and of mathematics: docstrings of the packages, and sums."""
    texts = [ast.get_docstring(ast.parse(file.text)) for pack in standard_packs() for file in pack.files]
    sums = [f"Question {n}: {n} + {3 * n}?\n\n{n} + {3 * n} = {4 * n}\n#### {4 * n}\n" * (1 + n % 5) for n in range(60)]
    documents = [
        Pack(
            f"{kind}{number}",
            kind,
            None,
            Split.TRAIN,
            (_make_document(f"{kind}.jsonl:{number}", language, text),),
            kind,
        )
        for kind, language, some in (
            (SourceKind.TEXT, "text", [text for text in texts if text]),
            (SourceKind.MATHEMATICS, "math", sums),
        )
        for number, text in enumerate(some)
    ]
    return (*standard_packs(), *documents)


def _make_document(path: str, language: str, text: str) -> PackedFile:
    return dataclasses.replace(make_file(path, text), language=language)
