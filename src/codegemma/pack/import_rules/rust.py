"""Modules of Rust.

**In**: `mod x;`, `use` trees, `extern crate`; what Cargo.toml calls crates, and where they begin.
**Out**: the file of the longest part of the path that is a module, else the crate's root.
**Not**: paths spelled in code without `use`, re-exports, and macros that write modules.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codegemma.pack.import_rules.statement import (
    Import,
    find_first,
    find_folder,
    find_statements,
    find_table,
    join_path,
    name_root,
)
from codegemma.text.toml_source import read_toml

STATEMENT = re.compile(
    r"""^(?P<indent>[ \t]*+)(?:\#\[path[ \t]*+=[ \t]*+"(?P<file>[^"\n]++)"\]\s*+)?+(?:\#\[[^\]\n]*+\][ \t]*+)*+
    (?:pub(?:\([^)\n]*+\))?+[ \t]++)?+(?:
        mod[ \t]++(?P<mod>\w++)[ \t]*+;
      | use[ \t\n]++(?P<use>[^;]{1,5000}+);
      | extern[ ]crate[ ](?P<crate>\w++)
    )""",
    re.MULTILINE | re.VERBOSE,
)
COMMENT = re.compile(r"//[^\n]*+|/\*.*?\*/", re.DOTALL)
TREE_PART = re.compile(r"[{},]|[^{},\s]+(?:\s+as\s+\w+)?")
# Files that are the root of a crate or of a folder's module: what they declare lies beside them.
ROOT_STEMS = ("lib", "main", "mod", "build")
# A use tree deeper than this is made to exhaust memory.
MAX_TREE_DEPTH = 50


def extract(text: str, top_end: int) -> Iterator[Import]:
    """Read the modules; one that the file declares itself has level 1.

    >>> [(i.module, i.level) for i in extract("mod a;\\nuse crate::b::{self, c::{D, E as F}};\\n", 200)]
    [('a', 1), ('crate::b', 0), ('crate::b::c::D', 0), ('crate::b::c::E', 0)]
    """
    for match, line in find_statements(STATEMENT, text, top_end):
        if match["mod"] is not None:
            yield Import(match["file"] or match["mod"], (), 1, line)
        elif match["crate"] is not None:
            yield Import(match["crate"], (), 0, line)
        else:
            for path in _expand_tree(match["use"]):
                # Inside `mod tests { ... }` the first `super` is the file itself.
                first, _, rest = path.partition("::")
                if match["indent"] and first == "super":
                    path = f"self::{rest}" if rest else "self"  # noqa: PLW2901 - the same path from outside
                yield Import(path, (), 0, line)


def _expand_tree(tree: str) -> list[str]:
    """Write out `a::{b, c::d}` as `a::b` and `a::c::d`."""
    found: list[str] = []
    prefixes, head = [""], ""
    for part in TREE_PART.findall(COMMENT.sub(" ", tree)):
        if part == "{":
            prefixes.append(prefixes[-1] + head)
        elif part == "}":
            del prefixes[max(len(prefixes) - 1, 1) :]
        elif not part.endswith("::") and part != ",":
            path: str = prefixes[-1] + part.split()[0]
            found.append(path.removeprefix("::").removesuffix("::self").removesuffix("::*"))
        head = part if part.endswith("::") else ""
        if len(prefixes) > MAX_TREE_DEPTH:
            break
    return found


class Crates:
    """The modules of one repository."""

    def __init__(self, imports: Mapping[str, Sequence[Import]], repo: str, build_files: Mapping[str, str]) -> None:
        self._paths = imports
        crates = {name: root for name, root in _list_crates(build_files) if root in imports}
        # Libraries last: where a program begins in the same folder, `crate` means the library.
        self._root_files = {find_folder(root): root for root in _list_programs(build_files) if root in imports}
        self._root_files |= {find_folder(root): root for root in crates.values()}
        self._begins = {*self._root_files.values(), *crates.values()}
        folders = {find_folder(path) for path in imports}
        self._roots = {folder for folder in folders if self._find_root_file(folder)}
        self._crates = self._infer_crates(name_root(repo))
        self._crates |= {name: find_folder(root) for name, root in crates.items()}
        for name, renamed in _list_renamed(build_files):
            if renamed in self._crates:
                self._crates.setdefault(name, self._crates[renamed])

    def _infer_crates(self, root: str) -> dict[str, str]:
        """Take the folder around `src/lib.rs` for the crate's name."""
        crates = {}
        for folder in sorted(self._roots, reverse=True):
            if folder.rpartition("/")[2] == "src" and _join(folder, "lib.rs") in self._paths:
                crates[(find_folder(folder).rpartition("/")[2] or root).replace("-", "_")] = folder
        return crates

    def _find_root_file(self, folder: str) -> str | None:
        named = self._root_files.get(folder)
        return named or find_first((_join(folder, name) for name in ("lib.rs", "main.rs")), self._paths)

    def _module_folder(self, path: str) -> str:
        return find_folder(path) if path in self._begins else _module_folder(path)

    def find_targets(self, path: str, statements: Sequence[Import]) -> Iterator[str]:
        """Yield the file of each module that is declared or used."""
        for statement in statements:
            target = self._find_module(path, statement.module) if statement.level else self._find_use(path, statement)
            if target is not None:
                yield target

    def _find_module(self, importer: str, module: str) -> str | None:
        folder = find_folder(importer)
        if module.endswith(".rs"):
            return find_first([join_path(folder, module)], self._paths)
        return self._find_file(self._module_folder(importer), [module]) or self._find_file(folder, [module])

    def _find_use(self, importer: str, statement: Import) -> str | None:
        first, *rest = statement.module.split("::")
        if first == "crate":
            return self._find_from_root(self._find_root(importer), rest)
        if first in ("self", "super"):
            own = folder = self._module_folder(importer)
            parts = [first, *rest]
            while parts and parts[0] in ("self", "super"):
                folder = find_folder(folder) if parts.pop(0) == "super" else folder
            return self._find_longest(folder, parts) or (self._find_folder_file(folder) if folder != own else None)
        if first in self._crates:
            return self._find_from_root(self._crates[first], rest)
        # Since 2018 a path may begin with a module in sight.
        return self._find_longest(self._module_folder(importer), [first, *rest])

    def _find_from_root(self, root: str, parts: list[str]) -> str | None:
        return self._find_longest(root, parts) or self._find_root_file(root)

    def _find_root(self, importer: str) -> str:
        folder = find_folder(importer)
        above = folder
        while above not in self._roots:
            if not above:
                return folder
            above = find_folder(above)
        return above

    def _find_longest(self, folder: str, parts: list[str]) -> str | None:
        for end in range(len(parts), 0, -1):
            file = self._find_file(folder, parts[:end])
            if file is not None:
                return file
        return None

    def _find_file(self, folder: str, parts: list[str]) -> str | None:
        stem = _join(folder, "/".join(parts))
        return find_first((stem + ".rs", stem + "/mod.rs"), self._paths)

    def _find_folder_file(self, folder: str) -> str | None:
        return find_first((folder + "/mod.rs", folder + ".rs"), self._paths) or self._find_root_file(folder)


def _module_folder(path: str) -> str:
    """Find the folder in which a file's own modules lie.

    >>> _module_folder("src/a/mod.rs"), _module_folder("src/a.rs")
    ('src/a', 'src/a')
    """
    stem = path.removesuffix(".rs")
    return find_folder(path) if stem.rpartition("/")[2] in ROOT_STEMS else stem


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _read_manifests(build_files: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, text in sorted(build_files.items()):
        if path.rpartition("/")[2] == "Cargo.toml":
            yield find_folder(path), read_toml(text)


def _list_crates(build_files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """List the names of libraries, and the file that each begins with."""
    for folder, manifest in _read_manifests(build_files):
        library = find_table(manifest, "lib")
        name, path = find_table(manifest, "package").get("name"), library.get("path", "src/lib.rs")
        root = join_path(folder, path) if isinstance(path, str) else None
        for each in (name, library.get("name")):
            if isinstance(each, str) and root is not None:
                yield each.replace("-", "_"), root


def _list_programs(build_files: Mapping[str, str]) -> Iterator[str]:
    """List the files that programs begin with, where a manifest names them."""
    for folder, manifest in _read_manifests(build_files):
        programs = manifest.get("bin")
        for program in programs if isinstance(programs, list) else ():
            path = program.get("path") if isinstance(program, dict) else None
            if isinstance(path, str) and (root := join_path(folder, path)):
                yield root


def _list_renamed(build_files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """List crates that have another name where they are used: `old = { package = "new" }`."""
    for _, manifest in _read_manifests(build_files):
        for keys in (("dependencies",), ("dev-dependencies",), ("workspace", "dependencies")):
            for name, dependency in find_table(manifest, *keys).items():
                package = dependency.get("package") if isinstance(dependency, dict) else None
                if isinstance(package, str):
                    yield name.replace("-", "_"), package.replace("-", "_")
