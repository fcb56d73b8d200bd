"""Reads which files of a repository import which: statements from the top of each file, resolved to paths.

**In**: a file's text; then the imports of every file of one repository.
**Out**: `Import` statements; `Edge`s between files, with how many names they carry.
**Not**: Python's import system. It is a best effort on text: an import inside a string counts, and one made at run time
does not. Languages without a rule here have no edges and are packed by name.
"""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

IMPORT = re.compile(
    r"""^[ \t\f]*(?:
        import[ \t]++(?P<modules>[A-Za-z_](?:[\w., \t]|\\\r?\n)*)(?=[\r\n;\#]|\Z)
      | from\b[ \t]*+(?P<dots>(?:\.[ \t]*+)*+)(?P<module>(?:[A-Za-z_][\w.]*)?)[ \t]*+\bimport\b[ \t]*+
        (?:\((?P<in_brackets>(?:[^)\#]|\#[^\n]*)*+)\) | (?P<names>(?:[\w*., \t]|\\\r?\n)+))
    )""",
    re.MULTILINE | re.VERBOSE,
)
COMMENT = re.compile(r"#[^\n]*")
NAME = re.compile(r"[\w.]+|\*")
# How far a statement that begins in the top lines may reach below them.
MAX_STATEMENT_CHARS = 10_000


@dataclass(frozen=True, slots=True)
class Import:
    """One module of an import statement. `level` counts the leading dots; `names` is empty for a plain `import`."""

    module: str
    names: tuple[str, ...]
    level: int
    line: int


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """`importer` imports `weight` names or modules from the file `imported`; both are paths."""

    importer: str
    imported: str
    weight: int


def extract_imports(text: str, language: str, top_lines: int = 200) -> tuple[Import, ...]:
    """Read the import statements that begin in the first `top_lines` lines; none for a language without a rule.

    >>> for statement in extract_imports("import a.b as c\\nfrom ..d import (e,  # why\\n  f as g)\\n", "python"):
    ...     print(statement)
    Import(module='a.b', names=(), level=0, line=1)
    Import(module='d', names=('e', 'f'), level=2, line=2)
    """
    if language != "python":
        return ()
    end = _end_of_line(text, top_lines)
    imports: list[Import] = []
    line, position = 1, 0
    for match in IMPORT.finditer(text, 0, end + MAX_STATEMENT_CHARS):
        if match.start() >= end:
            break
        line += text.count("\n", position, match.start())
        position = match.start()
        imports += _read_statement(match, line)
    return tuple(imports)


def _end_of_line(text: str, number: int) -> int:
    end = 0
    for _ in range(number):
        end = text.find("\n", end) + 1
        if end == 0:
            return len(text)
    return end


def _read_statement(match: re.Match[str], line: int) -> Iterator[Import]:
    modules, dots, module, in_brackets, names = match.group("modules", "dots", "module", "in_brackets", "names")
    if modules is not None:
        for name in _split_names(modules):
            yield Import(name, (), 0, line)
    elif dots.strip() or module:
        yield Import(module, tuple(_split_names(in_brackets or names)), dots.count("."), line)


def _split_names(listed: str) -> list[str]:
    """Take the first word of each part: `a as b` imports `a`."""
    parts = COMMENT.sub("", listed).split(",")
    return [first.group() for part in parts if (first := NAME.search(part))]


def resolve_imports(imports: Mapping[str, Sequence[Import]], repo: str) -> tuple[Edge, ...]:
    """Find the files that imports mean, by the longest path suffix; sorted, one edge for each pair of files.

    `imports` has a key for every file of the repository. The folder `repo` itself may be the package that is imported.

    >>> use_helper = Import("lib.helper", ("x", "y"), 0, 1)
    >>> resolve_imports({"src/lib/app.py": [use_helper], "src/lib/helper.py": []}, repo="lib-repo")
    (Edge(importer='src/lib/app.py', imported='src/lib/helper.py', weight=2),)
    """
    index = _ModuleIndex(imports, repo)
    weights = Counter(
        (path, target)
        for path, statements in imports.items()
        for statement in statements
        for target in index.find_targets(path, statement)
        if target != path
    )
    return tuple(sorted(Edge(*ends, weight) for ends, weight in weights.items()))


class _ModuleIndex:
    """Where the modules of one repository are: by full dotted name, and by every suffix that could be imported."""

    def __init__(self, imports: Mapping[str, Sequence[Import]], repo: str) -> None:
        self._root = PurePosixPath(repo).name.removesuffix(".git").replace(".", "_") or "repo"
        self._modules = {path: self._name_module(path) for path in imports}
        packages = self._find_packages(imports)
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        self._by_suffix: defaultdict[str, list[str]] = defaultdict(list)
        for path, parts in sorted(self._modules.items()):
            self._by_name[".".join(parts)].append(path)
            for start in range(len(parts)):
                # What lies in a package is not importable by its bare name: `import json` never means `pkg/json.py`.
                if parts[:start] not in packages and (start <= 1 or parts[start] not in sys.stdlib_module_names):
                    self._by_suffix[".".join(parts[start:])].append(path)
        self._cache: dict[tuple[bool, str, str], str | None] = {}

    def _name_module(self, path: str) -> tuple[str, ...]:
        pure = PurePosixPath(path)
        stem = () if _is_package_file(path) else (pure.stem,)
        return (self._root, *pure.parent.parts, *stem)

    def _find_packages(self, imports: Mapping[str, Sequence[Import]]) -> set[tuple[str, ...]]:
        """Folders with an `__init__.py`, or with relative imports: an empty `__init__.py` is no training text."""
        packages = {parts for path, parts in self._modules.items() if _is_package_file(path)}
        for path, statements in imports.items():
            if any(statement.level for statement in statements):
                packages.add(self._package_of(path))
        return packages

    def _package_of(self, path: str) -> tuple[str, ...]:
        return self._modules[path] if _is_package_file(path) else self._modules[path][:-1]

    def find_targets(self, path: str, statement: Import) -> Iterator[str]:
        """Yield a file for each name that is imported, if it is in the repository."""
        if statement.level:
            package = self._package_of(path)
            base = package[: len(package) - statement.level + 1]
            module = ".".join((*base, statement.module) if statement.module else base)
            table, shortest = (self._by_name, module) if base else ({}, module)
        else:
            module, table, shortest = statement.module, self._by_suffix, ""
        for name in statement.names or ("*",):
            target = self._find(table, path, module if name == "*" else f"{module}.{name}", shortest)
            if target is not None:
                yield target

    def _find(self, table: Mapping[str, list[str]], importer: str, name: str, shortest: str) -> str | None:
        key = (table is self._by_name, importer.rpartition("/")[0], name)
        if key not in self._cache:
            self._cache[key] = _find_longest(table, importer, name, shortest)
        return self._cache[key]


def _is_package_file(path: str) -> bool:
    return PurePosixPath(path).stem == "__init__"


def _find_longest(table: Mapping[str, list[str]], importer: str, name: str, shortest: str) -> str | None:
    """Look for `a.b.c`, then `a.b`, whose attribute `c` may be, down to `shortest`; nearest file first."""
    while len(name) >= max(len(shortest), 1):
        if name in table:
            return min(table[name], key=lambda path: (-_count_common_folders(importer, path), path))
        name = name.rpartition(".")[0]
    return None


def _count_common_folders(left: str, right: str) -> int:
    common = 0
    for a, b in zip(left.split("/")[:-1], right.split("/")[:-1], strict=False):
        if a != b:
            break
        common += 1
    return common
