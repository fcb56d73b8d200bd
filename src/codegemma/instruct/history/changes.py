"""Reads the commits of a git repository as changes of source files, newest first; nothing is checked out.

**In**: the folder of a repository, bare or not, and the choices of the corpus.
**Out**: a `Change` for each commit that changes code in a way that can be told, or the reason why it does not.
**Not**: the filters of licence and safety (`screen.py`). Merges, first commits, and commits larger than the choices
allow are not read; nor are files of other languages, which a change may have beside its code.

A history may have a million commits: they are read one by one, and no blob is read before its size is known.
"""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pygit2
from pygit2.enums import FileMode, SortMode

from codegemma.corpus.choices import CorpusChoices, Notebooks
from codegemma.corpus.contents import GitBlob
from codegemma.corpus.entries import FOREIGN_FOLDERS, ListedFile, make_entry
from codegemma.corpus.history import diff_with_first_parent
from codegemma.corpus.read import read_file
from codegemma.errors import InputError
from codegemma.instruct.history.statements import Statements
from codegemma.records import SourceFile, SourceKind
from codegemma.text.languages import detect_language, is_test_path

UNREADABLE = "an object that is not in the repository, as in a partial clone"
CUT_OFF = "a history that cannot be read further"
BROKEN_HISTORY = (KeyError, OSError, pygit2.GitError)
# Files that are no code of ours to tell about: they are left out of a change, and the rest of it is told.
_PASSED_OVER = frozenset(("language", "no_grammar", "notebook"))
_TRAILER = re.compile(
    r"(?:signed-off-by|co-authored-by|reviewed-by|acked-by|tested-by|reported-by|suggested-by|approved-by|helped-by"
    r"|change-id|reviewed-on|git-svn-id|cc|pull-request|closes|fixes|refs?|see)\s*:.*",
    re.IGNORECASE,
)
_NUMBER_AT_END = re.compile(r"\s*\((?:#|gh-)\d+\)$")
_BY_PROGRAM = re.compile(
    r"(?:merge|bump|revert|fixup!|squash!|amend!|release|wip)\b|.*\[(?:bot|skip ci|ci skip)\]", re.I
)


@dataclass(frozen=True, slots=True)
class HistoryChoices:
    """What is too large to learn from."""

    max_files: int = 12
    max_changed_lines: int = 300
    max_chars: int = 24_000
    min_message_words: int = 3


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """One file before and after; `None` where it was not there. Blobs are git's names of the bytes."""

    path: str
    language: str
    before: SourceFile | None = field(repr=False)
    after: SourceFile | None = field(repr=False)
    old_path: str

    @property
    def is_test(self) -> bool:
        """Tell whether it holds tests."""
        return is_test_path(self.path, self.language)

    @property
    def texts(self) -> tuple[SourceFile, ...]:
        """Both states, as far as there are any."""
        return tuple(file for file in (self.before, self.after) if file is not None)


@dataclass(frozen=True, slots=True)
class Change:
    """One commit: what its author said, and the source files that it changes."""

    repo: str
    commit: str
    message: str
    files: tuple[ChangedFile, ...]

    @property
    def tests(self) -> tuple[ChangedFile, ...]:
        """The changed tests."""
        return tuple(file for file in self.files if file.is_test)

    @property
    def code(self) -> tuple[ChangedFile, ...]:
        """The other changed files."""
        return tuple(file for file in self.files if not file.is_test)


class _DroppedError(Exception):
    """Carries the reason why a commit is not told."""


def open_history(root: Path) -> pygit2.Repository:
    """Open a repository.

    Raises:
        InputError: none, or one without a commit.
    """
    try:
        repository = pygit2.Repository(str(root))
    except pygit2.GitError as error:
        raise InputError(f"{root}: not a git repository ({error}); its history is what is read") from error
    if repository.head_is_unborn:
        raise InputError(f"{root}: no commit yet; commit something first")
    return repository


def walk_commits(repository: pygit2.Repository) -> Iterator[pygit2.Commit]:
    """Walk the history of `HEAD`, newest first.

    Raises:
        GitError: it cannot be read further; `KeyError` in the same case.
    """
    # Any other order would have the whole history read before the first commit.
    yield from repository.walk(repository.head.target, SortMode.NONE)


class ChangeReader:
    """Reads the commits of one repository as changes."""

    def __init__(
        self, repository: pygit2.Repository, repo: str, statements: Statements, corpus: CorpusChoices,
        choices: HistoryChoices,
    ) -> None:  # fmt: skip
        self._repository, self._repo, self._statements = repository, repo, statements
        self._corpus, self._choices = dataclasses.replace(corpus, notebooks=Notebooks.DROP), choices

    def read(self, commit: pygit2.Commit) -> Change | str:
        """Read a commit, or say why it is not told."""
        try:
            return self._read(commit)
        except _DroppedError as dropped:
            return str(dropped)
        except BROKEN_HISTORY:
            return UNREADABLE

    def _read(self, commit: pygit2.Commit) -> Change:
        if len(commit.parent_ids) != 1:
            raise _DroppedError("a merge" if commit.parent_ids else "a first commit")
        if b"[bot]" in commit.author.raw_name:
            raise _DroppedError("written by a program")
        message = read_message(commit, self._choices.min_message_words)
        diff = diff_with_first_parent(commit)
        deltas = [delta for delta in diff.deltas if FileMode.COMMIT not in (delta.old_file.mode, delta.new_file.mode)]
        if len(deltas) > self._choices.max_files:
            raise _DroppedError(f"more than {self._choices.max_files} files")
        files = [file for delta in deltas if (file := self._read_file(commit, delta)) is not None]
        if not files:
            raise _DroppedError("no change of code in a wanted language")
        return Change(self._repo, str(commit.id), message, tuple(sorted(files, key=lambda file: file.path)))

    def _read_file(self, commit: pygit2.Commit, delta: pygit2.DiffDelta) -> ChangedFile | None:
        before = self._read_side(commit.parents[0], delta.old_file)
        after = self._read_side(commit, delta.new_file)
        sides = [side for side in (before, after) if side is not None]
        if not sides or (before is not None and after is not None and before.text == after.text):
            return None
        last = sides[-1]
        return ChangedFile(last.path, last.language, before, after, sides[0].path)

    def _read_side(self, commit: pygit2.Commit, side: pygit2.DiffFile) -> SourceFile | None:
        """Read one state of a file; `None` where it is not there, or is not one to tell about."""
        if not side.id or set(str(side.id)) == {"0"} or side.mode == FileMode.LINK:
            return None
        path = side.raw_path.decode("utf-8", "surrogateescape")
        # git's tools write no such tree; whoever means harm may, to have a file written elsewhere.
        if not {"", ".", ".."}.isdisjoint(path.split("/")):
            raise _DroppedError("read: unsafe_path")
        _, size_bytes = self._repository.odb.read_header(side.id)
        entry = make_entry(path, size_bytes, str(side.id), GitBlob(self._repository.path, str(side.id)))
        license = self._statements.find_license(commit.tree, entry.path)
        found = read_file(ListedFile(self._repo, str(commit.id), license, entry), self._corpus)
        if isinstance(found, SourceFile):
            folders = entry.path.split("/")[:-1]
            if foreign := next((FOREIGN_FOLDERS[folder] for folder in folders if folder in FOREIGN_FOLDERS), None):
                raise _DroppedError(foreign)
            return found if found.kind is SourceKind.CODE else None
        if found.reason in _PASSED_OVER:
            return None
        if found.reason == "empty":
            return self._tell_empty(found.path, str(side.id), license, str(commit.id))
        raise _DroppedError(f"{found.stage}: {found.reason}")

    def _tell_empty(self, path: str, blob: str, license: str | None, commit: str) -> SourceFile | None:
        language = detect_language(path, "")
        return None if language is None else SourceFile(self._repo, path, language.name, "", blob, license, commit)


def read_message(commit: pygit2.Commit, min_words: int) -> str:
    """Read what an author said, without what programs and customs add."""
    try:
        text = commit.raw_message.decode(commit.message_encoding or "utf-8")
    except (UnicodeDecodeError, LookupError) as error:
        raise _DroppedError("a message that is not UTF-8") from error
    message = clean_message(text)
    if any(not sign.isprintable() and sign not in "\n\t" for sign in message):
        raise _DroppedError("a message with control characters")
    if _BY_PROGRAM.match(message):
        raise _DroppedError("a message that says nothing of the change")
    if len(message.split()) < min_words:
        raise _DroppedError(f"a message of fewer than {min_words} words")
    return message


def clean_message(text: str) -> str:
    r"""Take the trailers, and the number of a pull request, from a commit message.

    >>> clean_message("Mend the parser (#12)\r\n\nIt lost the last line.\n\nSigned-off-by: A B <a@b.c>\n")
    'Mend the parser\n\nIt lost the last line.'
    """
    lines = [line.rstrip() for line in text.strip().splitlines()]
    while lines and (not lines[-1] or _TRAILER.fullmatch(lines[-1])):
        lines.pop()
    if lines:
        lines[0] = _NUMBER_AT_END.sub("", lines[0])
    return "\n".join(lines)
