"""Tries the changes of a repository, as many at once as there are boxes, and keeps what was seen of each.

**In**: a repository, boxes, a store or none; `Change`s.
**Out**: for each what `Trials.run` says of it, in this run or a later one.
**Not**: the trial itself (`trial.py`). Each thread has a folder and a handle of git's library of its own.

What is kept hangs on the commit, the files that were told of it, the interpreter with its packages, and the boxes. What
met a limit is not kept: on another day a machine has more time, or room.
"""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from codegemma.evals.store import Store, hash_parts
from codegemma.instruct.history.changes import Change, open_history
from codegemma.instruct.history.trial import Failed, Trials
from codegemma.sandbox.box import Sandbox


class TrialPool:
    """As many changes at once as there are boxes; of each it is kept what was seen, where there is a store."""

    def __init__(self, root: Path, sandbox: Sandbox, runner: str | None = None, store: Store | None = None) -> None:
        """Find the interpreter; `runner` as of `Trials`."""
        self._root, self._sandbox, self._store = root, sandbox, store
        self._threads = ThreadPoolExecutor(sandbox.boxes, thread_name_prefix="trial")
        self._own = threading.local()
        self._opened: list[Trials] = []
        self._lock = threading.Lock()
        first = Trials(root, open_history(root), sandbox, runner)
        self._opened.append(first)
        self._runner, self._described = first.runner, first.describe()
        self._environment = [*first.stamp(), sandbox.describe()]

    def __enter__(self) -> "TrialPool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Who is interrupted does not wait for tests: the boxes end with the sandbox.
        self._threads.shutdown(wait=kind is None, cancel_futures=True)
        for trials in self._opened:
            trials.close()

    @property
    def boxes(self) -> int:
        """How many run at once."""
        return self._sandbox.boxes

    def describe(self) -> str:
        """Name what runs the tests."""
        return self._described

    def start(self, change: Change) -> "Future[Failed | str]":
        """Try a change when a box is free."""
        return self._threads.submit(self._find, change)

    def _find(self, change: Change) -> Failed | str:
        blobs = [[file.path, *(side and side.blob for side in (file.before, file.after))] for file in change.files]
        key = hash_parts("trial", change.commit, blobs, self._runner, self._environment)
        known = None if self._store is None else self._store.find(key)
        if known is not None:
            return known["unseen"] if "unseen" in known else Failed(**(known | {"tests": tuple(known["tests"])}))
        trials = self._take_own()
        found = trials.run(change)
        if self._store is not None and not trials.has_met_limit:
            self._store.keep(key, {"unseen": found} if isinstance(found, str) else found)
        return found

    def _take_own(self) -> Trials:
        """Take this thread's folder; git's library wants a repository for each thread as well."""
        trials: Trials | None = getattr(self._own, "trials", None)
        if trials is None:
            trials = self._own.trials = Trials(self._root, open_history(self._root), self._sandbox, self._runner)
            with self._lock:
                self._opened.append(trials)
        return trials
