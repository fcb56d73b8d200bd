"""Who does not want to be trained on: a list that the operator keeps, and marker files inside repositories.

**In**: a text file; a `Listing`.
**Out**: the listing with every opted-out entry refused, so that it is dropped unread and written down.
**Not**: finding out who would want that.

A line of the list names a repository, or a repository and a pattern, in the manner of `.gitignore`:

    # comments and blank lines are left out
    some-repository
    other-repository:src/generated/**
    *:**/someone@example.org/**

Repositories are named as in the report; `*` in a name stands for anything. A file named `.noai` opts out its folder and
all that is below it.
"""

import fnmatch
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash
from pathspec import GitIgnoreSpec

from codegemma.corpus.entries import Listing
from codegemma.corpus.ignore import NO_PATTERN
from codegemma.errors import InputError

REASON = "opted_out"
MARKER = ".noai"


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    repo: str
    paths: GitIgnoreSpec | None


@dataclass(frozen=True, slots=True)
class OptOutList:
    """A list that was read: its lines, and the digest by which a report says which list it was."""

    lines: tuple[_Line, ...]
    digest: str | None

    def choose_lines(self, repo: str) -> tuple[_Line, ...]:
        """Choose the lines that speak of a repository, once for all of its files."""
        return tuple(line for line in self.lines if fnmatch.fnmatchcase(repo, line.repo))

    def describe(self) -> str:
        """Say in the report which list was given.

        >>> OptOutList((), None).describe()
        'opt-out list: none given'
        """
        if self.digest is None:
            return "opt-out list: none given"
        return f"opt-out list: {len(self.lines)} lines, digest {self.digest}"


def read_opt_out(path: str | None) -> OptOutList:
    """Read a list.

    Raises:
        InputError: it cannot be read, or a line is no pattern. Without its list a build must not go on.
    """
    if path is None:
        return OptOutList((), None)
    try:
        content = Path(path).read_bytes()
        text = content.decode("utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: the opt-out list cannot be read ({error.strerror}); name another in corpus.opt_out"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the opt-out list is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        repo, _, pattern = (part.strip() for part in line.partition(":"))
        if not repo:
            raise InputError(f"{path}:{number}: {line.strip()!r} names no repository; wanted REPO or REPO:PATTERN")
        try:
            spec = GitIgnoreSpec.from_lines([pattern]) if pattern else None
        except NO_PATTERN as error:
            raise InputError(
                f"{path}:{number}: {pattern!r} is no pattern ({error}); wanted one of .gitignore"
            ) from error
        lines.append(_Line(number, repo, spec))
    return OptOutList(tuple(lines), xxhash.xxh3_128_hexdigest(content))


def refuse_opted_out(listing: Listing, opt_out: OptOutList) -> Listing:
    """Refuse the entries that the list or a marker opts out; what was refused already keeps its reason."""
    lines = opt_out.choose_lines(listing.repo)
    marked = {_find_folder(entry.path) for entry in listing.entries if entry.path.rpartition("/")[2] == MARKER}
    if not lines and not marked:
        return listing
    entries = []
    for entry in listing.entries:
        detail = _find_objection(entry.path, lines, marked)
        is_new = detail is not None and entry.refusal is None
        entries.append(replace(entry, refusal=(REASON, detail or "")) if is_new else entry)
    return replace(listing, entries=tuple(entries))


def _find_objection(path: str, lines: tuple[_Line, ...], marked: set[str]) -> str | None:
    for line in lines:
        if line.paths is None or line.paths.match_file(path):
            return f"line {line.number} of the opt-out list"
    folder = path
    while marked and folder != ".":
        folder = _find_folder(folder)
        if folder in marked:
            return f"{MARKER} in {folder}"
    return None


def _find_folder(path: str) -> str:
    return path.rpartition("/")[0] or "."
