"""When each file of a repository was first added, from its git history.

**In**: the folder of a git repository, bare or not.
**Out**: the commit time of each path's first version; a renamed file keeps its time.
**Not**: files that are not committed. The whole history is walked: only a split by time asks for it.
"""

from pathlib import Path

import pygit2
from pygit2.enums import DeltaStatus, SortMode

from codegemma.errors import InputError


def find_birth_times_s(root: Path) -> dict[str, int]:
    """Map each path that `HEAD` knows to when it was first added, in seconds since 1970.

    Raises:
        InputError: not a git repository, one without a commit, or one with a damaged history.
    """
    try:
        repository = pygit2.Repository(str(root))
    except pygit2.GitError as error:
        raise InputError(f"{root}: not a git repository; heldout_by=time needs its history, use directory") from error
    if repository.head_is_unborn:
        raise InputError(f"{root}: no commit yet; heldout_by=time needs a history, use directory")
    births: dict[str, int] = {}
    try:
        for commit in repository.walk(repository.head.target, SortMode.TOPOLOGICAL | SortMode.REVERSE):
            _add_births(births, commit)
    except (pygit2.GitError, KeyError) as error:
        raise InputError(
            f"{root}: its history cannot be read ({error}); fetch it whole, or use heldout_by=directory"
        ) from error
    return births


def _add_births(births: dict[str, int], commit: pygit2.Commit) -> None:
    for delta in diff_with_first_parent(commit).deltas:
        new, old = delta.new_file.path, delta.old_file.path
        if delta.status == DeltaStatus.RENAMED:
            births[new] = births.get(old, commit.commit_time)
        elif delta.status == DeltaStatus.ADDED:
            births.setdefault(new, commit.commit_time)


def diff_with_first_parent(commit: pygit2.Commit) -> pygit2.Diff:
    """Compare a commit with its first parent, or with nothing; renamed files are found by what they hold."""
    if not commit.parents:
        return commit.tree.diff_to_tree(swap=True)
    diff = commit.parents[0].tree.diff_to_tree(commit.tree)
    statuses = {delta.status for delta in diff.deltas}
    if {DeltaStatus.ADDED, DeltaStatus.DELETED} <= statuses:
        diff.find_similar()
    return diff
