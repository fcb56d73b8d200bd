"""From the histories of repositories to conversations of repair and review.

**In**: repositories, what is held out, the filters, and boxes to run tests in, where there are any.
**Out**: `Example`s, with what was seen of their tests; of every commit that gives none, the reason.
**Not**: walking, filters, tests and words: those are the neighbours'.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pygit2

from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.listing import list_repository
from codegemma.corpus.opt_out import MARKER
from codegemma.errors import InputError
from codegemma.evals.store import Store
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
from codegemma.instruct.history.pool import TrialPool
from codegemma.instruct.history.screen import Screen
from codegemma.instruct.history.statements import Statements
from codegemma.instruct.history.telling import count_changed_lines, tell_repair, tell_review
from codegemma.instruct.history.trial import Failed
from codegemma.records import Turn
from codegemma.runner import Progress, ignore_progress
from codegemma.sandbox.box import Sandbox

REPAIR, REVIEW = "repair", "review"
KINDS = (REPAIR, REVIEW)
# For each box: most commits have no test to run, and are read in no time.
_COMMITS_AHEAD = 8
_Told = Callable[[], Iterator[Example | str]]
_Trial = Callable[[], Failed | str]


@dataclass(frozen=True, slots=True)
class HistoryJob:
    """What is to be read, and how. Without a sandbox no test is run; `max_commits` are read of each repository.

    `kept` is a folder for what tests said: a run that was killed, or a longer history, does not run them again.
    """

    repos: tuple[Path, ...]
    corpus: CorpusChoices
    data: tuple[Path, ...] = ()
    kinds: tuple[str, ...] = KINDS
    choices: HistoryChoices = field(default_factory=HistoryChoices)
    max_commits: int | None = None
    only_verified: bool = False
    test_runner: str | None = None  # pytest where it is installed, else unittest
    kept: Path | None = None

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
    filters = _Filters(Heldout(job.data, job.corpus), Screen(job.corpus))
    with ExitStack() as opened:
        store = None if job.kept is None or sandbox is None else opened.enter_context(Store(job.kept))
        for root in job.repos:
            repository = open_history(root)
            with nullcontext() if sandbox is None else TrialPool(root, sandbox, job.test_runner, store) as trials:
                teller = _Teller(job, root, repository, filters, trials)
                notes += teller.describe()
                yield from teller.tell(on_progress)


class _Filters(NamedTuple):
    """What a change must pass."""

    heldout: Heldout
    screen: Screen


class _Teller:
    """One repository under way."""

    def __init__(
        self, job: HistoryJob, root: Path, repository: pygit2.Repository, filters: _Filters, trials: TrialPool | None
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
        """Tell commit by commit, in the order of the history; tests of the next ones run meanwhile."""
        self._heldout.follow(self._repo, walk_commits(self._repository))
        stage, number, total = f"commits of {self._repo}", 0, self._count_commits()
        for number, told in enumerate(self._look_ahead(), start=1):
            yield from told()
            on_progress(stage, number, total)
        on_progress(stage, number, number)

    def _count_commits(self) -> int | None:
        try:
            return sum(1 for _ in islice(walk_commits(self._repository), self._job.max_commits))
        except BROKEN_HISTORY:
            return None

    def _look_ahead(self) -> Iterator[_Told]:
        """Begin with some commits more than are told, so that no box waits for the reader."""
        begun: deque[_Told] = deque()
        ahead = 0 if self._trials is None else _COMMITS_AHEAD * self._trials.boxes
        for told in self._begin_all():
            begun.append(told)
            if len(begun) > ahead:
                yield begun.popleft()
        yield from begun

    def _begin_all(self) -> Iterator[_Told]:
        try:
            for commit in islice(walk_commits(self._repository), self._job.max_commits):
                change = self._reader.read(commit)
                reason = change if isinstance(change, str) else self._find_reason(change, commit.tree)
                if reason is not None or isinstance(change, str):
                    yield partial(iter, (reason,))
                else:
                    yield partial(self._tell_change, change, self._try(change))
        except BROKEN_HISTORY:
            yield partial(iter, (CUT_OFF,))

    def _find_reason(self, change: Change, tree: pygit2.Tree) -> str | None:
        markers = {marker for file in change.files for marker in self._statements.find_markers(tree, file.path)}
        reason = self._heldout.find(change) or self._screen.find_reason(change, [*self._markers, *markers])
        if reason is None and count_changed_lines(change) > (most := self._job.choices.max_changed_lines):
            reason = f"more than {most} changed lines"
        return reason

    def _tell_change(self, change: Change, trial: _Trial) -> Iterator[Example | str]:
        """Tell the kinds that are wanted; of one that cannot be told, the reason."""
        told = self._screen.redact(change)
        if REVIEW in self._job.kinds:
            yield self._make(REVIEW, told, tell_review(told), {})
        if REPAIR in self._job.kinds:
            yield self._tell_repair(told, self._screen_failure(change, trial()))

    def _tell_repair(self, told: Change, tried: Failed | str) -> Example | str:
        if isinstance(tried, str):
            if self._job.only_verified:
                return f"repair: not verified, {tried.partition(' (')[0]}"
            failed, seen = None, {"verified": False, "not_verified": tried}
        else:
            failed, seen = tried, {"verified": True, "tests": list(tried.tests), "passed": tried.passed}
        turns = tell_repair(told, failed)
        return "repair: no code before it" if turns is None else self._make(REPAIR, told, turns, seen)

    def _try(self, change: Change) -> _Trial:
        """Begin to try a change; what is returned waits for what was seen."""
        if not change.tests or not change.code:
            return lambda: "no test, or no code, was changed"
        if self._trials is None or REPAIR not in self._job.kinds:
            return lambda: "tests were not run"
        return self._trials.start(change).result

    def _screen_failure(self, change: Change, tried: Failed | str) -> Failed | str:
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
