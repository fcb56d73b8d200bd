"""Tells a change as conversations: to repair what its tests found, to make it as asked, to review it.

**In**: a `Change`, and what its tests said of the old code, where that was seen.
**Out**: turns; a diff in them can be applied to the code before it.
**Not**: a claim that was not seen: only where the tests failed on the old code does a conversation say that they do.
"""

import contextlib
from collections.abc import Iterable, Iterator

import pygit2

from codegemma.instruct.history.changes import Change, ChangedFile
from codegemma.instruct.history.trial import Failed
from codegemma.records import Turn
from codegemma.text.markdown import fence

# A single file of so many lines is answered whole, a longer one by a diff.
_MAX_WHOLE_LINES = 60
# Of a longer file than this, what surrounds its changes is shown.
_MAX_SHOWN_LINES = 120
_CONTEXT_LINES = 25
_DIFF_LINES = 3


def tell_repair(change: Change, failed: Failed | None) -> tuple[Turn, Turn] | None:
    """Ask for the code of a change; `None` where there was no code before it.

    With tests the answer says what the author said, without them the author's words are what is asked for.
    """
    old = [file for file in change.code if file.before is not None]
    if not old or not any(file.after for file in change.code):
        return None
    code = "\n\n".join(map(_show_old, old))
    answer = _spell_answer(change.code)
    if not change.tests:
        return Turn("user", f"{change.message}\n\nChange this code accordingly.\n\n{code}"), Turn("model", answer)
    tests = fence(spell_diff(change.tests), "diff")
    if failed is None:
        asked = f"Change the code so that it does what these tests, changed here, ask for.\n\n{tests}"
    else:
        told = fence(failed.output, "")
        asked = f"These tests, changed here, fail. Mend the code.\n\n{tests}\n\nThey say:\n\n{told}"
    return Turn("user", f"{asked}\n\nThe code:\n\n{code}"), Turn("model", f"{change.message}\n\n{answer}")


def tell_review(change: Change) -> tuple[Turn, Turn]:
    """Show the whole change, and have it said what it does and why."""
    diff = fence(spell_diff(change.files), "diff")
    return Turn("user", f"Review this change: say as a commit message what it does, and why.\n\n{diff}"), Turn(
        "model", change.message
    )


def count_changed_lines(change: Change) -> int:
    """Count the lines that a change adds or takes away."""
    return sum(_diff(file)[1] for file in change.files)


def spell_diff(files: Iterable[ChangedFile]) -> str:
    """Spell the changes of files as `git diff` does, without the names of blobs, which nobody could know."""
    return "".join(_diff(file)[0] for file in files)


def _show_old(file: ChangedFile) -> str:
    """Show a file as it was, or of a long one what surrounds the changes, with its lines."""
    text = file.before.text if file.before else ""
    if text.count("\n") <= _MAX_SHOWN_LINES:
        return f"`{file.old_path}`:\n\n{fence(text, file.language)}"
    lines = text.split("\n")
    parts = []
    for start, end in _find_surroundings(file):
        shown = fence("\n".join(lines[start:end]), file.language)
        parts.append(f"`{file.old_path}`, lines {start + 1} to {end}:\n\n{shown}")
    return "\n\n".join(parts)


def _find_surroundings(file: ChangedFile) -> list[tuple[int, int]]:
    """Find the half-open runs of old lines, counted from 0, that surround the changes."""
    with _patch(file, _CONTEXT_LINES) as patch:
        return [(max(hunk.old_start - 1, 0), hunk.old_start - 1 + hunk.old_lines) for hunk in patch.hunks]


def _spell_answer(files: tuple[ChangedFile, ...]) -> str:
    if len(files) == 1 and (after := files[0].after) is not None and after.text.count("\n") <= _MAX_WHOLE_LINES:
        return f"`{after.path}`:\n\n{fence(after.text, after.language)}"
    return fence(spell_diff(files), "diff")


def _diff(file: ChangedFile) -> tuple[str, int]:
    """Give the diff of a file, and how many lines it adds or takes away."""
    with _patch(file, _DIFF_LINES) as patch:
        head, mark, hunks = patch.data.decode().partition("\n@@")
        lines = [line for line in head.split("\n") if not line.startswith("index ")]
        return "\n".join(lines) + mark + hunks, sum(patch.line_stats[1:])


@contextlib.contextmanager
def _patch(file: ChangedFile, context_lines: int) -> Iterator[pygit2.Patch]:
    before = None if file.before is None else file.before.text.encode()
    after = None if file.after is None else file.after.text.encode()
    # The patch points into these two and does not keep them, so it is lent and not given.
    yield pygit2.Patch.create_from(before, after, file.old_path, file.path, context_lines=context_lines)
    del before, after
