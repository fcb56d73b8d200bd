"""The held-out border of a corpus build: which files lie behind it, and which of them a training file gives away.

**In**: a build whose copies and refused files are gone; the ledger of earlier builds into the folder.
**Out**: a side for every file that stays.
**Not**: how a side is chosen (`split.py`) or a leak found (`judge.py`, `leaks.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from codegemma.corpus import split
from codegemma.corpus.census import Drop
from codegemma.corpus.choices import HeldoutBy, narrow
from codegemma.corpus.history import find_birth_times_s
from codegemma.corpus.judge import (
    LEAK_CHOICES,
    IndexTask,
    Leak,
    LeakTask,
    ShingleTask,
    compare_gone,
    find_leaks,
    index_shingles,
    merge_leaks,
    shingle_texts,
)
from codegemma.corpus.leaks import choose_sampling
from codegemma.corpus.ledger import LEDGER_FILE, Ledger, read_ledger, write_ledger
from codegemma.corpus.split import Heldout
from codegemma.corpus.stages import Judging
from codegemma.errors import InputError
from codegemma.records import Pack, PackedFile
from codegemma.shards import read_records


class Dividing(Judging):
    """The stages from the border on."""

    ledger: Ledger

    def hold_out(self) -> None:
        """Divide each repository on its own, so that one more repository changes nothing in the others.

        What an earlier build into this folder has held out or trained on stays where it is, wherever it moves.
        """
        ledger = self.ledger = read_ledger(self.out / LEDGER_FILE, self.choices)
        if ledger.is_damaged:
            self.notes.append(f"{LEDGER_FILE} was damaged: files that earlier builds held out may be trained on now")
        numbers_of = dict(self.census.list_values("repo"))
        for repo, _, root, _ in self.repositories:
            numbers = numbers_of.get(repo, self.census.find(np.zeros(0, np.bool_)))
            seen = list(self.census.list_columns(("path", "size_bytes", "digest"), numbers))
            sizes = {path: size_bytes for path, size_bytes, _ in seen}
            digests = {path: digest for path, _, digest in seen}
            was_heldout = ledger.find_sides(repo, digests)
            held = self._choose_heldout(root, repo, sizes, was_heldout)
            ledger.note(repo, digests, held.paths)
            self.how[repo] = held.how
            self.census.is_heldout[numbers] = [path in held.paths for path, _, _ in seen]
            if sizes and self.choices.heldout_share > 0 and not held.paths:
                self.notes.append(f"{repo}: nothing could be held out, it has too few files")

    def _choose_heldout(
        self, root: str | None, repo: str, sizes: Mapping[str, int], was_heldout: Mapping[str, bool]
    ) -> Heldout:
        share = self.choices.heldout_share
        if not sizes or share == 0:
            return Heldout(frozenset(), "nothing")
        if was_heldout:
            return split.keep_sides(sizes, was_heldout, share, repo, self.choices.seed)
        if self.choices.heldout_by is HeldoutBy.TIME:
            if root is None:
                raise InputError(f"{repo}: not a git repository; heldout_by=time needs its history, use directory")
            return split.hold_out_newest(sizes, find_birth_times_s(Path(root)), share, repo)
        return split.hold_out_directories(sizes, share, repo, self.choices.seed)

    def remember_sides(self) -> None:
        """Write down which side each file is on. Only a whole build binds later ones: nobody has learned from half."""
        write_ledger(self.out / LEDGER_FILE, self.ledger)

    def drop_leaks(self, trained: Sequence[Path]) -> None:
        """Drop held-out files that a training file gives away, one of now or one of an earlier run's packs."""
        order = self.census.find(self.census.is_heldout)
        if not len(order):
            return
        sampling = choose_sampling(int(self.census.size_bytes[order].sum()))
        index = self._index_heldout(sampling)
        choices = narrow(self.choices, LEAK_CHOICES)
        tasks = []
        for texts, rows, _ in self._list_texts(self.census.is_train):
            out = self._name("leaks", ".parquet", choices, index.name, texts.name, rows)
            tasks.append(LeakTask(texts, rows, index, sampling, choices, out))
        self._run(find_leaks, tasks, "leaks")
        found: dict[int, Leak] = {}
        for task in tasks:
            for leak in read_records(task.out, Leak):
                found[leak.heldout] = merge_leaks(found.get(leak.heldout), leak)
        if trained:
            for leak in compare_gone(self._list_gone(trained), index, sampling, choices):
                found[leak.heldout] = merge_leaks(found.get(leak.heldout), leak)
        leaks = sorted(found.items())
        self.census.drop(split.STAGE, (Drop(int(order[number]), *self._judge_leak(leak)) for number, leak in leaks))
        if not self.census.is_heldout.any():
            self.notes.append("every held-out file was given away by a training file: nothing is held out")

    def _list_gone(self, trained: Sequence[Path]) -> Iterator[PackedFile]:
        """List what earlier runs were trained on and this build is not: files that were edited, moved or removed."""
        here = set(self.census.list_columns(("repo", "path", "blob"), self.census.find(self.census.is_train)))
        for packs in trained:
            for pack in read_records(packs, Pack):
                yield from (file for file in pack.files if (pack.repo, file.path, file.blob) not in here)

    def _index_heldout(self, sampling: int) -> Path:
        tasks = []
        for texts, rows, _ in self._list_texts(self.census.is_heldout):
            tasks.append(ShingleTask(texts, rows, sampling, self._name("shingles", ".npz", texts.name, rows, sampling)))
        self._run(shingle_texts, tasks, "leaks: held out")
        shingles = tuple(task.out for task in tasks)
        index = IndexTask(shingles, self._name("index", ".npz", [path.name for path in shingles]))
        self._run(index_shingles, [index], "leaks: index")
        return index.out

    def _judge_leak(self, leak: Leak) -> tuple[str, str]:
        if leak.jaccard >= self.choices.max_heldout_jaccard:
            return "near_duplicate_of_train", f"Jaccard index {leak.jaccard:.3f} with {leak.jaccard_path}"
        return "contained_in_train", f"{leak.containment:.1%} of it stands in {leak.containment_path}"
