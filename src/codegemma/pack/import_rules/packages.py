"""Finds files where imports name packages and types, not files: Java, Kotlin, C# and Go.

**In**: what each file says its package is, the names it declares, the names it mentions and what it imports.
**Out**: for an imported type its file; for a whole package, the files of those of its types that the text mentions.
**Not**: types nested in others, and overloads. Of several files that declare a name, the nearest is meant.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set

from codegemma.pack.import_rules.statement import Import, ImportKind, find_folder, find_nearest, find_stem


class PackageIndex:
    """The files of one repository by package and declared name; `list_packages` gives the packages of a file.

    They are as many as its declarations, in their order, or one.
    """

    def __init__(
        self, imports: Mapping[str, Sequence[Import]], list_packages: Callable[[str, Sequence[Import]], Iterable[str]]
    ) -> None:
        self._files: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._packages_of: dict[str, tuple[str, ...]] = {}
        for path in sorted(imports):
            packages = self._packages_of[path] = tuple(list_packages(path, imports[path]))
            for package, names in zip(packages, _list_declared(path, imports), strict=False):
                for name in sorted(names):
                    self._files[package][name].append(path)

    def packages_of(self, path: str) -> tuple[str, ...]:
        """Name the packages that a file is in; mostly it is one."""
        return self._packages_of[path]

    def has_package(self, package: str) -> bool:
        """Say whether any file is in a package."""
        return package in self._files

    def find_name(self, package: str, name: str, importer: str) -> str | None:
        """Find the file that declares a name in a package."""
        candidates = self._files[package].get(name) if package in self._files else None
        return find_nearest(candidates, importer) if candidates else None

    def find_qualified(self, qualified: str, importer: str) -> str | None:
        """Find the file of `package.Type`, `package.Type.member` and so on: the longest package wins."""
        parts = qualified.split(".")
        for end in range(len(parts) - 1, 0, -1):
            package = ".".join(parts[:end])
            if package in self._files:
                return self.find_name(package, parts[end], importer)
        return None

    def find_mentions(self, package: str, names: Set[str], importer: str) -> Iterator[str]:
        """Yield the file of each name that a package declares."""
        declared: Mapping[str, Sequence[str]] = self._files.get(package, {})
        for name in sorted(declared.keys() & names):
            yield find_nearest(declared[name], importer)


def _list_declared(path: str, imports: Mapping[str, Sequence[Import]]) -> Iterator[set[str]]:
    """List the types of a file by package: those that it declares, and in the first the one that it is named for.

    `Parser.Generated.cs` adds to the type of `Parser.cs`, if that is there, and does not declare it.
    """
    folder, stem = find_folder(path), find_stem(path)
    main = f"{folder}/{stem}.{path.rpartition('.')[2]}".lstrip("/")
    is_part = path != main and main in imports
    declarations = [set(s.names) for s in imports[path] if s.kind is ImportKind.DECLARATION] or [set()]
    for number, names in enumerate(declarations):
        yield names - {stem} if is_part else names | {stem} if number == 0 else names


def list_names(statements: Iterable[Import], kind: ImportKind) -> list[str]:
    """List the names of all statements of one kind."""
    return [name for statement in statements if statement.kind is kind for name in statement.names]


def list_declared_packages(_path: str, statements: Sequence[Import]) -> Iterable[str]:
    """Read the packages from the file's own declarations; a file without one is in the package `""`."""
    return [s.module for s in statements if s.kind is ImportKind.DECLARATION] or [""]


class Namespaces:
    """Files of a language whose imports name types (`a.b.C`) or packages (`a.b.*`)."""

    def __init__(self, imports: Mapping[str, Sequence[Import]], _repo: str, _build_files: Mapping[str, str]) -> None:
        self._index = PackageIndex(imports, list_declared_packages)

    def find_targets(self, path: str, statements: Sequence[Import]) -> Iterator[str]:
        """Yield the file of each type that is imported, or mentioned from a package in sight."""
        imported = [s for s in statements if s.kind is ImportKind.IMPORT]
        explicit = {s.module.rpartition(".")[2] for s in imported if not s.names}
        for statement in imported:
            target = None if statement.names else self._index.find_qualified(statement.module, path)
            if target is not None:
                yield target
        mentions = set(list_names(statements, ImportKind.MENTION)) - explicit
        for package in self._list_packages_in_sight(path, imported):
            yield from self._index.find_mentions(package, mentions, path)

    def _list_packages_in_sight(self, path: str, imported: Iterable[Import]) -> Iterable[str]:
        packages = [*self._index.packages_of(path), *(s.module for s in imported if s.names)]
        return sorted({package for package in packages if self._index.has_package(package)})
