"""Imports of JavaScript and TypeScript, with their markup forms.

**In**: `import` and `export ... from`, `require(...)`, `import(...)`; what build files say of names.
**Out**: the file that a relative specifier means: as spelled, with an extension, or a folder's index; a workspace's
package by its entry; an alias by what it stands for.
**Not**: aliases of bundlers, but for `@/` and `~/`, which mean the sources.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from codegemma.pack.import_rules.node_manifests import NodeManifests
from codegemma.pack.import_rules.statement import (
    Import,
    SuffixIndex,
    find_first,
    find_folder,
    find_nearest,
    find_statements,
    join_path,
    name_root,
)

STATEMENT = re.compile(
    r"""^[ \t]*+(?:import|export)\b(?P<clause>[\w$\s{},*]{0,5000}+)(?:["'])(?P<module>[^"'\n]{1,400})["']""",
    re.MULTILINE | re.VERBOSE,
)
# Two patterns that begin with a word are found faster than one with a choice.
CALLS = tuple(
    re.compile(word + r"""[ \t]*+\(\s{0,100}+["'](?P<module>[^"'\n]{1,400})["']""") for word in ("require", "import")
)
NAME = re.compile(r"[\w$]+|\*")
EXTENSIONS = (".ts", ".tsx", ".d.ts", ".js", ".jsx", ".mjs", ".cjs", ".mts", ".cts")
# TypeScript's modules import the file that the compiler will write.
WRITTEN_EXTENSIONS = {".js": (".ts", ".tsx"), ".jsx": (".tsx",), ".mjs": (".mts",), ".cjs": (".cts",)}
ENTRIES = ("", "src/index", "index", "src/main", "lib/index", "main")
_ENTRY_ENDS = tuple(f"/{folder}{entry}" for folder in ("", "dist/") for entry in ENTRIES[1:])

# Where the packages of a workspace mostly are.
WORKSPACE_FOLDERS = frozenset({"packages", "libs", "modules", "apps"})


def extract(text: str, top_end: int) -> Iterator[Import]:
    """Read the imports; a relative one has level 1.

    >>> for i in extract("import a, { b as c } from './d'\\nconst e = require('f')\\n", 200):
    ...     print(i.module, i.names, i.level, i.line)
    ./d ('a', 'b') 1 1
    f () 0 2
    """
    found = []
    for match, line in find_statements(STATEMENT, text, top_end):
        names, word, _ = match["clause"].rpartition("from")
        is_whole_module = not match["clause"].strip() and not match[0].lstrip().startswith("export")
        if word or is_whole_module:
            found.append(_make_import(match["module"], tuple(_list_names(names)), line))
    for call in CALLS:
        found += [_make_import(match["module"], (), line) for match, line in find_statements(call, text, top_end)]
    return iter(found)


def _make_import(module: str, names: tuple[str, ...], line: int) -> Import:
    return Import(module, names, int(module.startswith(".")), line)


def _list_names(clause: str) -> Iterator[str]:
    for part in clause.replace("{", ",").replace("}", ",").split(","):
        words = [word for word in NAME.findall(part) if word != "type"]
        if words:
            yield words[0]


class Scripts:
    """The files of one repository that scripts can import."""

    def __init__(self, imports: Mapping[str, Sequence[Import]], repo: str, build_files: Mapping[str, str]) -> None:
        self._paths = imports
        self._manifests = NodeManifests(build_files)
        self._index = SuffixIndex(map(_strip_extension, imports), name_root(repo))
        folders: defaultdict[str, set[str]] = defaultdict(set)
        for stem in map(_strip_extension, imports):
            for end in (end for end in _ENTRY_ENDS if stem.endswith(end)):
                folder = stem.removesuffix(end)
                folders[folder.rpartition("/")[2]].add(folder)
        self._folders = {name: sorted(found) for name, found in folders.items()}

    def find_targets(self, path: str, statements: Sequence[Import]) -> Iterator[str]:
        """Yield the imported file once for each name."""
        for statement in statements:
            target = self._find(path, statement)
            if target is not None:
                yield from (target for _ in statement.names or ("*",))

    def _find(self, importer: str, statement: Import) -> str | None:
        module = statement.module.partition("?")[0]
        if statement.level:
            return self._find_file(join_path(find_folder(importer), module))
        aliased = (self._find_file(path) for path in self._manifests.expand_alias(module, importer))
        target = next(filter(None, aliased), None)
        if target is not None:
            return target
        if module.startswith(("@/", "~/")):
            rest = module[2:]
            stems = (self._index.find(suffix, importer) for suffix in (f"src/{rest}", f"src/{rest}/index", rest))
            return next((self._find_file(stem) for stem in stems if stem is not None), None)
        return self._find_in_workspace(importer, module)

    def _find_in_workspace(self, importer: str, module: str) -> str | None:
        parts = module.split("/")
        length = 2 if module.startswith("@") else 1
        name, rest = "/".join(parts[:length]), "/".join(parts[length:])
        packages = self._manifests.packages
        folder = packages.get(name)
        if folder is not None:
            entries = (self._find_file(path) for path in self._manifests.expand_entry(name, rest))
            if target := next(filter(None, entries), None):
                return target
        if folder is None and not packages and length == 2 and len(parts) > 1 and parts[1] in self._folders:
            candidates = self._folders[parts[1]]
            in_workspace = [c for c in candidates if find_folder(c).rpartition("/")[2] in WORKSPACE_FOLDERS]
            folder = find_nearest(in_workspace or candidates, importer)
        if folder is None:
            return None
        tails = (f"src/{rest}", rest, f"src/{rest}/index") if rest else ENTRIES[1:]
        return next((file for tail in tails if (file := self._find_file(join_path(folder, tail)))), None)

    def _find_file(self, path: str | None) -> str | None:
        if path is None:
            return None
        stem, dot, extension = path.rpartition(".")
        written = WRITTEN_EXTENSIONS.get(dot + extension, ())
        candidates = [path, *(path + e for e in EXTENSIONS), *(stem + e for e in written)]
        candidates += [f"{path}/index{e}".lstrip("/") for e in EXTENSIONS]
        return find_first(candidates, self._paths)


def _strip_extension(path: str) -> str:
    return next((path.removesuffix(e) for e in EXTENSIONS if path.endswith(e)), path)
