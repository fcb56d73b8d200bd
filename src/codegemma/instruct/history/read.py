"""From the histories of repositories to conversations of repair and review.

**In**: repositories, what is held out, the filters, and boxes to run tests in, where there are any.
**Out**: `Example`s, with what was seen of their tests; of every commit that gives none, the reason.
**Not**: walking, filters, tests and words: those are the neighbours'.
"""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pygit2

from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.listing import list_repository
from codegemma.corpus.opt_out import MARKER
from codegemma.errors import InputError
from codegemma.instruct.examples import Example
from codegemma.instruct.history.changes import (
    BROKEN_HISTORY,
    CUT_OFF,
    Change,
    ChangeReader,
    HistoryChoices,
    open_history,
    walk_commits,
)
from codegemma.instruct.history.heldout import Heldout
from codegemma.instruct.history.screen import Screen
from codegemma.instruct.history.statements import Statements
from codegemma.instruct.history.telling import count_changed_lines, tell_repair, tell_review
from codegemma.instruct.history.trial import Failed, Trials
from codegemma.records import Turn
from codegemma.runner import Progress, ignore_progress
from codegemma.sandbox.box import Sandbox

REPAIR, REVIEW = "repair", "review"
KINDS = (REPAIR, REVIEW)


@dataclass(frozen=True, slots=True)
class HistoryJob:
    """What is to be read, and how. Without a sandbox no test is run; `max_commits` are read of each repository."""

    repos: tuple[Path, ...]
    corpus: CorpusChoices
    data: tuple[Path, ...] = ()
    kinds: tuple[str, ...] = KINDS
    choices: HistoryChoices = field(default_factory=HistoryChoices)
    max_commits: int | None = None
    only_verified: bool = False
    test_runner: str | None = None  # pytest where it is installed, else unittest

    def __post_init__(self) -> None:
        """Refuse unknown kinds."""
        if unknown := [kind for kind in self.kinds if kind not in KINDS]:
            raise InputError(f"no conversations of kind {unknown[0]!r}; known: {', '.join(KINDS)}")


def read_history(
    job: HistoryJob, sandbox: Sandbox | None, notes: list[str], on_progress: Progress = ignore_progress
) -> Iterator[Example | str]:
    """Read the conversations of all repositories; notes say how.

    Raises:
        InputError: no git repository, or data of no build.
    """
    heldout, screen = Heldout(job.data, job.corpus), Screen(job.corpus)
    for root in job.repos:
        repository = open_history(root)
        with nullcontext() if sandbox is None else Trials(root, repository, sandbox, job.test_runner) as trials:
            teller = _Teller(job, root, repository, _Filters(heldout, screen), trials)
            notes += teller.describe()
            yield from teller.tell(on_progress)


class _Filters(NamedTuple):
    """What a change must pass."""

    heldout: Heldout
    screen: Screen


class _Teller:
    """One repository under way."""

    def __init__(
        self, job: HistoryJob, root: Path, repository: pygit2.Repository, filters: _Filters, trials: Trials | None
    ) -> None:
        self._job, self._repository, self._trials = job, repository, trials
        self._heldout, self._screen = filters
        listing = list_repository(root)
        self._repo = listing.repo
        self._markers = [entry.path for entry in listing.entries if entry.path.rpartition("/")[2] == MARKER]
        self._statements = Statements(repository)
        self._reader = ChangeReader(repository, self._repo, self._statements, job.corpus, job.choices)

    def describe(self) -> Iterator[str]:
        """Say how tests are run, and where nothing is held out."""
        if self._trials is not None:
            yield f"{self._repo}: tests by {self._trials.describe()}"
        if self._job.data and self._repo not in self._heldout.list_repos():
            yield f"{self._repo}: no file of it is held out by name; texts are compared all the same"

    def tell(self, on_progress: Progress) -> Iterator[Example | str]:
        self._heldout.follow(self._repo, walk_commits(self._repository))
        number = 0
        try:
            for number, commit in enumerate(islice(walk_commits(self._repository), self._job.max_commits), start=1):
                on_progress(f"commits of {self._repo}", number, self._job.max_commits)
                change = self._reader.read(commit)
                reason = change if isinstance(change, str) else self._find_reason(change, commit.tree)
                if reason is not None:
                    yield reason
                elif isinstance(change, Change):
                    yield from self._tell_change(change)
        except BROKEN_HISTORY:
            yield CUT_OFF
        on_progress(f"commits of {self._repo}", number, number)

    def _find_reason(self, change: Change, tree: pygit2.Tree) -> str | None:
        markers = {marker for file in change.files for marker in self._statements.find_markers(tree, file.path)}
        reason = self._heldout.find(change) or self._screen.find_reason(change, [*self._markers, *markers])
        if reason is None and count_changed_lines(change) > (most := self._job.choices.max_changed_lines):
            reason = f"more than {most} changed lines"
        return reason

    def _tell_change(self, change: Change) -> Iterator[Example | str]:
        """Tell the kinds that are wanted; of one that cannot be told, the reason."""
        told = self._screen.redact(change)
        if REVIEW in self._job.kinds:
            yield self._make(REVIEW, told, tell_review(told), {})
        if REPAIR in self._job.kinds:
            yield self._tell_repair(change, told)

    def _tell_repair(self, change: Change, told: Change) -> Example | str:
        tried = self._try(change)
        if isinstance(tried, str):
            if self._job.only_verified:
                return f"repair: not verified, {tried.partition(' (')[0]}"
            failed, seen = None, {"verified": False, "not_verified": tried}
        else:
            failed, seen = tried, {"verified": True, "tests": list(tried.tests), "passed": tried.passed}
        turns = tell_repair(told, failed)
        return "repair: no code before it" if turns is None else self._make(REPAIR, told, turns, seen)

    def _try(self, change: Change) -> Failed | str:
        if not change.tests or not change.code:
            return "no test, or no code, was changed"
        if self._trials is None:
            return "tests were not run"
        tried = self._trials.run(change)
        if isinstance(tried, str):
            return tried
        output = self._screen.redact_text(tried.output, change.repo)
        return self._screen.find_unsafe(output) or Failed(output, tried.tests, tried.passed)

    def _make(self, kind: str, change: Change, turns: tuple[Turn, Turn], seen: Mapping[str, object]) -> Example | str:
        if sum(len(turn.text) for turn in turns) > self._job.choices.max_chars:
            return f"{kind}: longer than {self._job.choices.max_chars:,} characters"
        licenses = sorted({text.license for file in change.files for text in file.texts if text.license})
        origin = {
            "kind": kind,
            "repo": change.repo,
            "commit": change.commit,
            "paths": [file.path for file in change.files],
            "license": " AND ".join(licenses) or None,
            **seen,
        }
        return Example(turns, origin)
