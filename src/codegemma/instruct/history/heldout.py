"""Keeps the evaluation clean: no change is told of a file that a build holds out, under whatever name it went.

**In**: data folders that `codegemma build` wrote, and the history of a repository.
**Out**: whether a change touches a held-out file, or holds a text like one.
**Not**: repositories that the builds do not have: of those only the texts are compared.
"""

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import pygit2
from pygit2.enums import DeltaStatus

from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.dedup import hash_shingles
from codegemma.corpus.history import diff_with_first_parent
from codegemma.corpus.leaks import LeakIndex, choose_sampling, sample_shingles
from codegemma.corpus.pipeline import HELDOUT_FILE
from codegemma.errors import InputError
from codegemma.instruct.history.changes import BROKEN_HISTORY, Change
from codegemma.records import SourceFile
from codegemma.shards import find_output, read_records

HELDOUT = "a file that is held out"
LIKE_HELDOUT = "a text like one that is held out"


class Heldout:
    """The held-out files of some builds."""

    def __init__(self, data: Sequence[Path], choices: CorpusChoices) -> None:
        """Read them.

        Raises:
            InputError: a folder that no build wrote.
        """
        self._paths: dict[str, set[str]] = defaultdict(set)
        self._choices = choices
        files = [file for folder in data for file in _read_heldout(folder)]
        for file in files:
            self._paths[file.repo].add(file.path)
        self._sampling = choose_sampling(sum(len(file.text) for file in files))
        shingles = [sample_shingles(hash_shingles(file.text), self._sampling) for file in files]
        self._index = LeakIndex(shingles) if files else None

    def list_repos(self) -> Collection[str]:
        """List the repositories that have held-out files."""
        return self._paths.keys()

    def follow(self, repo: str, commits: Iterable[pygit2.Commit]) -> None:
        """Add the names that held-out files of a repository had before, whatever branch renamed them."""
        if not (known := self._paths.get(repo)):
            return
        before: dict[str, set[str]] = defaultdict(set)
        with contextlib.suppress(*BROKEN_HISTORY):  # nothing older can be told either
            for commit in commits:
                for old, new in _list_renames(commit):
                    before[new].add(old)
        fresh = list(known)
        while fresh:
            former = before.get(fresh.pop(), set()) - known
            known |= former
            fresh += former

    def find(self, change: Change) -> str | None:
        """Say why a change may not be told, if it may not."""
        known = self._paths.get(change.repo, set())
        if any({file.path, file.old_path} & known for file in change.files):
            return HELDOUT
        is_like = any(self._is_like(text.text) for file in change.files for text in file.texts)
        return LIKE_HELDOUT if is_like else None

    def _is_like(self, text: str) -> bool:
        if self._index is None:
            return False
        shingles = sample_shingles(hash_shingles(text), self._sampling)
        choices = self._choices
        found = self._index.find_like(shingles, choices.max_heldout_jaccard, choices.max_heldout_containment)
        return found is not None


def _read_heldout(folder: Path) -> Iterator[SourceFile]:
    place = find_output(folder, HELDOUT_FILE)
    if not place.exists():
        raise InputError(f"{folder}: no {HELDOUT_FILE} there; wanted a folder that `codegemma build` wrote")
    return read_records(place, SourceFile)


def _list_renames(commit: pygit2.Commit) -> Iterator[tuple[str, str]]:
    try:
        deltas = list(diff_with_first_parent(commit).deltas)
    except BROKEN_HISTORY:
        return
    for delta in deltas:
        if delta.status == DeltaStatus.RENAMED:
            old, new = (side.raw_path.decode("utf-8", "surrogateescape") for side in (delta.old_file, delta.new_file))
            yield old, new
