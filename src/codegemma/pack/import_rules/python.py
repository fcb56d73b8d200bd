"""Imports of Python.

**In**: `import a.b` and `from ..a import (b, c)`, in all their spellings; where build files say that packages lie.
**Out**: the file of the longest part of `a.b.c` that is a module, for each name.
**Not**: Python's import system: no path hooks, no namespace packages that lie in two places.
"""

import bisect
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import PurePosixPath

from codegemma.pack.import_rules.python_manifests import list_package_folders
from codegemma.pack.import_rules.statement import Import, find_nearest, find_statements, name_root
from codegemma.text.languages import split_path

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
# More folders with a name of their own are made to exhaust a machine.
MAX_PACKAGE_FOLDERS = 1_000


def extract(text: str, top_end: int) -> Iterator[Import]:
    """Read the import statements.

    >>> [(i.module, i.names, i.level) for i in extract("from ..d import (e,  # why\\n  f as g)\\n", 200)]
    [('d', ('e', 'f'), 2)]
    """
    for match, line in find_statements(IMPORT, text, top_end):
        yield from _read_statement(match, line)


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


class Modules:
    """Where the modules of one repository are: by full dotted name, and by every suffix that could be imported."""

    def __init__(self, imports: Mapping[str, Sequence[Import]], repo: str, build_files: Mapping[str, str]) -> None:
        self._root = name_root(repo).replace(".", "_")
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
        for package, folder in islice(list_package_folders(build_files), MAX_PACKAGE_FOLDERS):
            self._name_folder(package, (self._root, *PurePosixPath(folder).parts))
        self._cache: dict[tuple[bool, str, str], str | None] = {}

    def _name_folder(self, package: str, folder: tuple[str, ...]) -> None:
        """Let the modules of a folder be imported by the name that a build file gives it."""
        for path, parts in self._modules.items():
            if parts[: len(folder)] == folder:
                paths = self._by_suffix[".".join(filter(None, (package, *parts[len(folder) :])))]
                if path not in paths:
                    bisect.insort(paths, path)

    def _name_module(self, path: str) -> tuple[str, ...]:
        folders, stem = split_path(path)
        return (self._root, *folders) if _is_package_file(path) else (self._root, *folders, stem)

    def _find_packages(self, imports: Mapping[str, Sequence[Import]]) -> set[tuple[str, ...]]:
        """Folders with an `__init__.py`, or with relative imports: an empty `__init__.py` is no training text."""
        packages = {parts for path, parts in self._modules.items() if _is_package_file(path)}
        for path, statements in imports.items():
            if any(statement.level for statement in statements):
                packages.add(self._package_of(path))
        return packages

    def _package_of(self, path: str) -> tuple[str, ...]:
        return self._modules[path] if _is_package_file(path) else self._modules[path][:-1]

    def find_targets(self, path: str, statements: Sequence[Import]) -> Iterator[str]:
        """Yield a file for each name that is imported, if it is in the repository."""
        for statement in statements:
            yield from self._find_names(path, statement)

    def _find_names(self, path: str, statement: Import) -> Iterator[str]:
        if statement.level:
            package = self._package_of(path)
            base = package[: max(len(package) - statement.level + 1, 0)]
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
    return split_path(path)[1] == "__init__"


def _find_longest(table: Mapping[str, list[str]], importer: str, name: str, shortest: str) -> str | None:
    """Look for `a.b.c`, then `a.b`, whose attribute `c` may be, down to `shortest`; nearest file first."""
    least_chars = max(len(shortest), 1)
    while len(name) >= least_chars:
        if name in table:
            return find_nearest(table[name], importer)
        name = name.rpartition(".")[0]
    return None
