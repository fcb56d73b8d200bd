"""Real files of the standard library, split by package, and a completer that has counted the training side."""

import email
import functools
import json
import logging
import os
from pathlib import Path
from types import ModuleType

import pytest
from tests.evals.byte_completer import ByteCompleter
from tests.feed.packs import make_file

from codegemma.evals.ngram import train_ngram
from codegemma.evals.scoring import Subject
from codegemma.records import InfillMode, Pack, Split
from codegemma.shards import write_records


def _pack_module(module: ModuleType, split: Split, max_files: int) -> Pack:
    folder = Path(str(module.__file__)).parent
    files = [f for f in sorted(folder.glob("*.py")) if f.stat().st_size][:max_files]
    packed = tuple(make_file(f"{folder.name}/{f.name}", f.read_text(encoding="utf-8")) for f in files)
    return Pack(f"{folder.name}-{split}", "std", None, split, packed)


@functools.cache
def train_packs() -> tuple[Pack, ...]:
    return (_pack_module(logging, Split.TRAIN, 3), _pack_module(email, Split.TRAIN, 6))


@functools.cache
def heldout_packs() -> tuple[Pack, ...]:
    return (_pack_module(json, Split.HELDOUT, 6),)


@functools.cache
def make_subject() -> Subject:
    texts = [file.text for pack in train_packs() for file in pack.files]
    completer = ByteCompleter(train_ngram(texts, order=6))
    return Subject(completer, completer.tokenizer, 512, (InfillMode.PSM, InfillMode.SPM))


def write_data(folder: Path) -> Path:
    """Write the packs as `codegemma build` does."""
    write_records(folder / "packs-train.parquet", train_packs())
    write_records(folder / "packs-heldout.parquet", heldout_packs())
    return folder


def find_benchmarks() -> Path:
    """Find the published benchmarks, or skip."""
    folder = os.environ.get("CODEGEMMA_TEST_DATA")
    if folder is None:
        pytest.skip("CODEGEMMA_TEST_DATA is not set: the folder with the published benchmarks")
    return Path(folder) / "eval"
