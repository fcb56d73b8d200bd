"""What the rules of all languages share: import statements, the top of a file, and the nearest of several files.

**In**: a file's text; paths of one repository.
**Out**: `Import` statements with their lines; lookups by path suffix.
**Not**: a language's own spelling: that is the module of its family.
"""

import bisect
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

# How far a statement that begins in the top lines may reach below them.
MAX_STATEMENT_CHARS = 10_000
# How many folders above a file an import may name. Deeper trees are made to exhaust memory.
MAX_SUFFIX_PARTS = 16
# Not a member, which follows a dot, nor what is assigned to.
# The look behind stands second, so that the search is for a capital.
TYPE_NAME = re.compile(r"[A-Z](?<![\w.].)\w*+(?! =[^=])")
# Of Java, Kotlin, C# and Go; one that is never closed runs to the end. In a string it takes the rest of the line.
COMMENT = re.compile(r"/(?:/[^\n]*+|\*[^*]*+(?:\*(?!/)[^*]*+)*+(?:\*/)?)")


class ImportKind(StrEnum):
    """What a statement does.

    `DECLARATION` says which package or namespace the file itself is in, and the names that it gives to others.
    `MENTION` lists the names in the text that may come from any package in sight.
    """

    IMPORT = "import"
    DECLARATION = "declaration"
    MENTION = "mention"


@dataclass(frozen=True, slots=True)
class Import:
    """One module of an import statement.

    `module` is spelled as in the text. `level` is 0 for a module that is looked for everywhere, 1 for one that is
    looked for from the file's own folder, and one more for each folder above it where a language counts those.
    `names` is empty where the statement lists none.
    """

    module: str
    names: tuple[str, ...]
    level: int
    line: int
    kind: ImportKind = ImportKind.IMPORT


class Resolver(Protocol):
    """Knows the files of one family of languages in one repository.

    `imports` has a key for every such file; `build_files` maps the paths of go.mod and the like to their text.
    """

    def __init__(self, imports: Mapping[str, Sequence[Import]], repo: str, build_files: Mapping[str, str]) -> None: ...

    def find_targets(self, path: str, statements: Sequence[Import]) -> Iterator[str]:
        """Yield a file of the repository for each name that `path` imports."""
        ...


def find_statements(pattern: re.Pattern[str], text: str, top_end: int) -> Iterator[tuple[re.Match[str], int]]:
    """Yield the matches that begin before `top_end`, with the line of each."""
    line, position = 1, 0
    for match in pattern.finditer(text, 0, top_end + MAX_STATEMENT_CHARS):
        if match.start() >= top_end:
            break
        line += text.count("\n", position, match.start())
        position = match.start()
        yield match, line


def find_top_end(text: str, lines: int) -> int:
    """Find where the first lines of a text end.

    >>> find_top_end("a\\nb\\nc", 1), find_top_end("a\\nb\\nc", 3)
    (2, 5)
    """
    if text.count("\n") < lines:
        return len(text)
    end = 0
    for _ in range(lines):
        end = text.index("\n", end) + 1
    return end


def read_mentions(text: str, top_end: int, *more: re.Pattern[str]) -> Import:
    """List the words of the top lines that may be names of types, and what else a language names them by.

    >>> read_mentions("// A license\\nFoo f = Bar.run(); /* Old o; */ this.Size = 1;\\n", 80).names
    ('Bar', 'Foo')
    """
    code = COMMENT.sub(" ", text[:top_end])
    names = {name for pattern in (TYPE_NAME, *more) for name in pattern.findall(code)}
    return Import("", tuple(sorted(names)), 0, 1, ImportKind.MENTION)


def name_root(repo: str) -> str:
    """Name the folder that a repository is usually checked out in.

    >>> name_root("hub/numpy.git")
    'numpy'
    """
    return repo.rstrip("/").rpartition("/")[2].removesuffix(".git") or "repo"


def find_folder(path: str) -> str:
    """Find the folder of a path, without a slash at its end; the top is `""`."""
    return path.rpartition("/")[0]


def find_stem(path: str) -> str:
    """Find a file's name up to its first dot, which is the type that it holds where files are named for types.

    >>> find_stem("src/Parser.Generated.cs")
    'Parser'
    """
    return path.rpartition("/")[2].partition(".")[0]


def join_path(folder: str, relative: str) -> str | None:
    """Follow a relative path from a folder; `None` where it leaves the repository.

    >>> join_path("src/lib", "../x/./a.h"), join_path("src", "../../a.h")
    ('src/x/a.h', None)
    """
    parts = folder.split("/") if folder else []
    for part in relative.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def find_nearest(candidates: Sequence[str], importer: str) -> str:
    """Choose the path with the most folders in common, then the first by name; `candidates` are sorted.

    >>> find_nearest(["a/util.py", "b/c/util.py", "b/util.py"], "b/d/app.py")
    'b/c/util.py'
    """
    folder = find_folder(importer)
    while folder and len(candidates) > 1:
        place = bisect.bisect_left(candidates, folder + "/")
        if place < len(candidates) and candidates[place].startswith(folder + "/"):
            return candidates[place]
        folder = find_folder(folder)
    return candidates[0]


def find_table(content: object, *keys: str) -> dict[str, Any]:
    """Follow keys into a manifest; what is no table is an empty one.

    >>> find_table({"tool": {"a": 1}}, "tool"), find_table({"tool": []}, "tool", "b")
    ({'a': 1}, {})
    """
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}


class SuffixIndex:
    """Files by every ending of their path that begins at a folder's or the file's own name.

    >>> SuffixIndex(["src/lib/a.h", "src/b.h"], "lib").find("lib/a.h", "src/main.c")
    'src/lib/a.h'
    """

    def __init__(self, paths: Iterable[str], root: str) -> None:
        self._paths_by_suffix: defaultdict[str, list[str]] = defaultdict(list)
        for path in sorted(paths):
            parts = (root, *path.split("/"))
            for start in range(max(len(parts) - MAX_SUFFIX_PARTS, 0), len(parts)):
                self._paths_by_suffix["/".join(parts[start:])].append(path)

    def find(self, suffix: str, importer: str) -> str | None:
        """Find the nearest file whose path ends so."""
        candidates = self._paths_by_suffix.get(suffix)
        return find_nearest(candidates, importer) if candidates else None


def find_first(candidates: Iterable[str | None], paths: Collection[str]) -> str | None:
    """Choose the first candidate that is a file."""
    return next((path for path in candidates if path in paths), None)
