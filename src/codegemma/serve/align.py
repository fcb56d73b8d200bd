"""Finds where the text before a cursor lies in what a session already has of it, though clients cut their own windows.

**In**: the session's older text and the client's new one, each from some line of the same file up to a cursor.
**Out**: the new text with the longer left edge that is known; or nothing, where the texts are not of one file.
**Not**: budgets: how much of it is shown is `session.py`'s.
"""

from codegemma.text.beginnings import count_common

# What of a text's head is looked for; long enough not to be found in another place of the file by chance.
_HEAD_CHARS = 240
# An edit before the cursor changes the end of the text. Beyond so many characters before it, the texts must agree.
_MAX_CHANGED_CHARS = 4000
_LEAST_AGREED_SHARE = 0.5


def join_left(old: str, new: str) -> str | None:
    r"""Join what `old` has before the start of `new` to it.

    >>> join_left("import os\nimport sys\nx = os.", "import sys\nx = os.path")
    'import os\nimport sys\nx = os.path'
    >>> join_left("import sys\nx = os.", "import os\nimport sys\nx = os.path")
    'import sys\nx = os.path'
    >>> join_left("import sys\n", "class A:\n    pass\n") is None
    True
    """
    if not old or not new:
        return new if not old and not new else None
    if is_same(old, new):
        return new
    start = _find_line(old, _head(new))
    if start is not None and is_same(old[start:], new):
        return old[:start] + new
    start = _find_line(new, _head(old))
    if start is not None and is_same(old, new[start:]):
        return new[start:]
    return None


def is_same(old: str, new: str) -> bool:
    """Say whether two texts are of one file up to one cursor and another near it."""
    if new.startswith(old) or old.startswith(new):
        return True
    common = count_common(old, new)
    changed = max(len(old), len(new)) - common
    return changed <= _MAX_CHANGED_CHARS and common >= _LEAST_AGREED_SHARE * min(len(old), len(new))


def _head(text: str) -> str:
    """The first lines of a text; a line that is cut off at the end may have changed since."""
    head = text[:_HEAD_CHARS]
    whole = head.rfind("\n") + 1
    return head[:whole] if len(text) > _HEAD_CHARS and whole > _HEAD_CHARS // 2 else head[: max(whole, 1)]


def _find_line(text: str, head: str) -> int | None:
    """Find where `head` begins a line of `text`."""
    if not head.strip():
        return None
    if text.startswith(head):
        return 0
    at = text.find("\n" + head)
    return None if at < 0 else at + 1
