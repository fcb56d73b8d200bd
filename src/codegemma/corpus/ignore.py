"""Which paths of a folder its `.gitignore` files leave out.

**In**: an open git repository, or a plain folder.
**Out**: a function from a relative path to whether it is ignored.
**Not**: tracked files; git does not ignore what it tracks, and neither do we.
"""

import os
import re
import stat
import warnings
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pygit2
from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

# (relative path with `/`, whether it is a folder) -> whether it is ignored
IsIgnored = Callable[[str, bool], bool]
MAX_GITIGNORE_BYTES = 1_048_576
MAX_FOLDERS_REMEMBERED = 10_000
# How many characters of a path stand before what a rule looks at, and the rules.
_Rules = tuple[tuple[int, GitIgnoreSpec], ...]
# Plain `re`: the faster backends refuse names that are not UTF-8.
BACKEND = "simple"
# What `pathspec` raises at a line that is no pattern, such as `[z-a]`.
NO_PATTERN = (ValueError, re.error)
# More `**` before the end of a line take too long on a path of a thousand folders; nobody writes so many.
MAX_DEEP_STARS = 2
# As `pathspec` spells a star, the signs after it, and, not taken in, the next star of the same name.
_STARRED = re.compile(
    r"(?:\[\^/\]\*)+((?:\\.|\[(?!\^/\]\*)\^?\]?(?:\\.|[^\]\\])*\]|[^\\/()?$\[])+)(?=\[\^/\]\*)", re.DOTALL
)


def ignore_by_git(repository: pygit2.Repository) -> IsIgnored:
    """Leave out what `git status` leaves out: untracked files that a `.gitignore` or an exclude file names.

    libgit2's own answer is not used: it overlooks a `!pattern` in a deeper `.gitignore` than the rule it lifts.
    """
    root = Path(repository.workdir)
    tracked = {entry.path for entry in repository.index}
    tracked_folders = {str(parent) for path in tracked for parent in PurePosixPath(path).parents}
    is_ignored_by_files = ignore_by_files(root, _find_exclude_files(repository))

    def is_ignored(path: str, is_folder: bool) -> bool:
        return path not in (tracked_folders if is_folder else tracked) and is_ignored_by_files(path, is_folder)

    return is_ignored


def ignore_by_files(root: Path, exclude_files: tuple[Path, ...] = ()) -> IsIgnored:
    """Read `.gitignore` files as git does: the deepest file and its last matching line decide, exclude files come last.

    The walk must ask for a folder before it asks for what is in it: inside an ignored folder, nothing is asked.
    """
    rules: dict[str, _Rules] = {}
    excludes = [spec for path in exclude_files if (spec := _read_spec(path)) is not None]

    def find_rules(folder: str) -> _Rules:
        """Collect the rules of a folder and those above it, the deepest first; few folders have any of their own."""
        if len(rules) > MAX_FOLDERS_REMEMBERED:
            rules.clear()
        missing = [folder]
        while missing[-1] and missing[-1] not in rules:
            missing.append(missing[-1].rpartition("/")[0])
        for name in reversed(missing):
            if name not in rules:
                own = _read_spec(root / name / ".gitignore")
                above = rules[name.rpartition("/")[0]] if name else ()
                rules[name] = above if own is None else ((len(name) + 1 if name else 0, own), *above)
        return rules[folder]

    def is_ignored(path: str, is_folder: bool) -> bool:
        name = f"{path}/" if is_folder else path
        for skipped_chars, spec in find_rules(path.rpartition("/")[0]):
            verdict = spec.check_file(name[skipped_chars:]).include
            if verdict is not None:
                return verdict
        verdicts = (spec.check_file(name).include for spec in excludes)
        return next((verdict for verdict in verdicts if verdict is not None), False)

    return is_ignored


def _find_exclude_files(repository: pygit2.Repository) -> tuple[Path, ...]:
    git_folder = Path(repository.path)
    if (git_folder / "commondir").is_file():  # a linked working tree
        git_folder /= (git_folder / "commondir").read_text(encoding="utf-8").strip()
    files = [git_folder / "info" / "exclude"]
    if "core.excludesfile" in repository.config:
        files.append(Path(str(repository.config["core.excludesfile"])).expanduser())
    return tuple(files)


def _read_spec(path: Path) -> GitIgnoreSpec | None:
    try:
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_GITIGNORE_BYTES:
            return None
        lines = os.fsdecode(path.read_bytes()).splitlines()
    except OSError:
        return None
    return GitIgnoreSpec([pattern for line in lines for pattern in _parse_line(line)], backend=BACKEND)


def _parse_line(line: str) -> list[GitIgnoreSpecPattern]:
    if line.rstrip("/*").count("**") > MAX_DEEP_STARS:
        return []
    with warnings.catch_warnings(action="ignore"):  # `[[` may come to mean something else, one day
        try:
            return [_bound(pattern) for pattern in GitIgnoreSpec.from_lines([line]).patterns]
        except NO_PATTERN:
            return []  # git passes over a line that is not a pattern


def _bound(pattern: GitIgnoreSpecPattern) -> GitIgnoreSpecPattern:
    """Match every star but the last of a name as short as can be, once: a longer match could not save the rest.

    Otherwise `*a*a*a*a*b` takes years to tell that a name of 250 times `a` is another.
    """
    if pattern.regex is None:
        return pattern
    return GitIgnoreSpecPattern(re.compile(_STARRED.sub(r"(?>[^/]*?\1)", pattern.regex.pattern)), pattern.include)
