"""Remembers in a data folder what was removed from it on request, so that no later build into it takes it up again.

**In**: a `Removal`: a repository, or patterns of paths in it; a `Listing`.
**Out**: `forgotten.json` in the data folder; the listing with every such entry refused, and without its name.
**Not**: other folders, and a repository under another name: those are the operator's list's (`opt_out.py`).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash
from pathspec import GitIgnoreSpec

from codegemma.corpus.entries import Listing, refuse
from codegemma.corpus.ignore import NO_PATTERN
from codegemma.errors import InputError
from codegemma.files import write_whole
from codegemma.places import get_bytes
from codegemma.recipe import to_plain

FORGOTTEN_FILE = "forgotten.json"
REASON = "forgotten"


@dataclass(frozen=True, slots=True)
class Removal:
    """What is to be removed: the files of a repository that a pattern matches, in the manner of `.gitignore`, or all.

    The repository is named exactly, as in the report. Without patterns, it is removed as a whole.
    """

    repo: str
    patterns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse patterns that name nothing, or take others back.

        Raises:
            InputError: the message names the pattern.
        """
        for pattern in self.patterns:
            if not pattern.strip() or pattern.lstrip().startswith(("!", "#")) or not pattern.isprintable():
                raise InputError(
                    f"--path {pattern!r} names no files; wanted a path or a pattern in the manner of .gitignore, "
                    "such as src/people/** (a leading ! or # is written \\! or \\#)"
                )
            try:
                GitIgnoreSpec.from_lines([pattern])
            except NO_PATTERN as error:
                raise InputError(f"--path {pattern!r} is no pattern ({error}); wanted one as in .gitignore") from error


def make_matcher(removal: Removal) -> Callable[[str, str], bool]:
    """Give a function that tells of a repository and a path whether they are to be removed.

    >>> matches = make_matcher(Removal("service", ("people/*.py",)))
    >>> matches("service", "people/a.py"), matches("service", "main.py"), matches("other", "people/a.py")
    (True, False, False)
    """
    spec = GitIgnoreSpec.from_lines(removal.patterns) if removal.patterns else None

    def matches(repo: str, path: str) -> bool:
        return repo == removal.repo and (spec is None or spec.match_file(path))

    return matches


def covers(forgotten: Sequence[Removal], removal: Removal) -> bool:
    """Tell whether a removal is remembered already.

    >>> covers([Removal("a", ("x.py", "y.py")), Removal("b")], Removal("b", ("z.py",)))
    True
    """
    known = next((each for each in forgotten if each.repo == removal.repo), None)
    return known is not None and (
        not known.patterns or (bool(removal.patterns) and {*removal.patterns} <= {*known.patterns})
    )


def add_removal(forgotten: Sequence[Removal], removal: Removal) -> tuple[Removal, ...]:
    """Add a removal to a list; a whole repository stands for all patterns in it.

    >>> add_removal([Removal("a", ("x.py",))], Removal("a", ("y.py",)))
    (Removal(repo='a', patterns=('x.py', 'y.py')),)
    """
    if covers(forgotten, removal):
        return tuple(forgotten)
    patterns = {each.repo: each.patterns for each in forgotten}
    known = patterns.get(removal.repo, ())
    patterns[removal.repo] = tuple(dict.fromkeys((*known, *removal.patterns))) if removal.patterns else ()
    return tuple(Removal(repo, patterns[repo]) for repo in sorted(patterns))


def write_forgotten(folder: Path, forgotten: Sequence[Removal]) -> None:
    """Write the list of a data folder, whole or not at all.

    Raises:
        OutputError: no permission or no space.
    """
    write_whole(folder / FORGOTTEN_FILE, (json.dumps({"forgotten": to_plain(forgotten)}, indent=1) + "\n").encode())


def read_forgotten(folder: Path) -> tuple[Removal, ...]:
    """Read the list of a data folder; without one, nothing was removed from it.

    Raises:
        InputError: it cannot be read. Without its list a build must not go on.
    """
    file = folder / FORGOTTEN_FILE
    try:
        plain = json.loads(get_bytes(file).decode())
        rows = [(row["repo"], row["patterns"]) for row in plain["forgotten"]]
        is_text = all(isinstance(text, str) for repo, patterns in rows for text in (repo, *patterns))
        if not is_text or any(isinstance(patterns, str) for _, patterns in rows):
            raise TypeError("wanted names and lists of patterns")
        return tuple(Removal(repo, tuple(patterns)) for repo, patterns in rows)
    except FileNotFoundError:
        return ()
    except NotADirectoryError:
        return ()  # What is wrong with the folder itself is for others to say.
    except (OSError, ValueError, KeyError, TypeError, RecursionError, InputError) as error:
        raise InputError(
            f"{file}: the list of what was forgotten cannot be read ({error!r}); put it in order: "
            '{"forgotten": [{"repo": "NAME", "patterns": []}]}, no pattern standing for the whole repository'
        ) from error


def refuse_forgotten(listing: Listing, forgotten: Sequence[Removal]) -> Listing:
    """Refuse the entries that were forgotten. Their names may be personal, so a digest stands in their place."""
    removal = next((each for each in forgotten if each.repo == listing.repo), None)
    if removal is None:
        return listing
    matches = make_matcher(removal)
    entries = tuple(
        refuse(f"forgotten-{xxhash.xxh3_64_hexdigest(entry.path.encode())}", REASON, "removed on request")
        if matches(listing.repo, entry.path)
        else entry
        for entry in listing.entries
    )
    return replace(listing, entries=entries)


def describe_forgotten(forgotten: Sequence[Removal]) -> tuple[str, ...]:
    """Say in the report what is kept out; nothing, where nothing is.

    >>> describe_forgotten([Removal("a"), Removal("b", ("x.py", "y.py"))])
    ('forgotten on request, and kept out: 1 whole repository, 2 patterns of paths in others (`forgotten.json`)',)
    """
    if not forgotten:
        return ()
    whole = sum(not each.patterns for each in forgotten)
    patterns = sum(len(each.patterns) for each in forgotten)
    repositories = "repository" if whole == 1 else "repositories"
    noun = "pattern" if patterns == 1 else "patterns"
    return (
        f"forgotten on request, and kept out: {whole} whole {repositories}, {patterns} {noun} of paths in others "
        f"(`{FORGOTTEN_FILE}`)",
    )
