"""Imports of Go, which name folders.

**In**: `import` statements and blocks, what a file declares for others, and the module paths of go.mod.
**Out**: for each imported folder, the files that declare what the text mentions.
**Not**: build tags, and names that only their own package sees. Without go.mod the module's path is inferred.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from codegemma.pack.import_rules.packages import PackageIndex, list_names
from codegemma.pack.import_rules.statement import (
    Import,
    ImportKind,
    find_folder,
    find_statements,
    find_stem,
    join_path,
    name_root,
    read_mentions,
)

STATEMENT = re.compile(
    r"""^import(?:
        [ \t]*+\((?P<block>(?:[^)/]|/(?!/)|//[^\n]*+)*+)\)
      | [ \t]++(?:(?P<alias>[\w.]++)[ \t]++)?+"(?P<single>[^"\n]++)"
    )""",
    re.MULTILINE | re.VERBOSE,
)
SPEC = re.compile(r'^[ \t]*+(?:(?P<alias>[\w.]++)[ \t]++)?+"(?P<module>[^"\n]++)"', re.MULTILINE)
# `pkg.Name`; fields and methods look like names of packages that there are none of.
QUALIFIED_NAME = re.compile(r"[a-z](?<!\w.)\w*+\.[A-Z]\w*+")
# From the line end on, so that the search for it is fast. The second form stands in `var (` and `const (` blocks.
DECLARATION = re.compile(r"\n(?:(?:func|type|var|const) |\t(?=[A-Z]\w*[ \t]{0,40}[\w.*\[\]]{0,40} =))([A-Z]\w*)")
MODULE = re.compile(r'^module[ \t]++"?([^\s"]++)', re.MULTILINE)
# A module that stands in this repository for another one.
REPLACEMENT = re.compile(
    r'^[ \t]*+(?:replace[ \t]++)?+"?([^\s"]++)"?[^\n=]{0,100}=>[ \t]*+"?(\.[^\s"]*+)', re.MULTILINE
)
VERSION = re.compile(r"/v\d+$")
# First names of the standard library's folders: no module of a repository begins so.
STANDARD = frozenset(
    """archive bufio bytes cmp compress container context crypto database debug embed encoding errors expvar flag fmt go
    hash html image index internal io iter log maps math mime net os path plugin reflect regexp runtime slices sort
    strconv strings structs sync syscall testing text time unicode unique unsafe weak""".split()  # noqa: SIM905 - words are read more easily than a list
)


def extract(text: str, top_end: int) -> Iterator[Import]:
    """Read imports with the name that each has here, and the declared and the mentioned names.

    >>> [(i.module, i.names) for i in extract('package a\\nimport (\\n\\tb "x.org/c"\\n)\\nfunc F() { b.G() }\\n', 200)]
    [('', ('F',)), ('x.org/c', ('b',)), ('', ('F', 'b.G'))]
    """
    yield Import("", tuple(sorted(set(DECLARATION.findall(text)))), 0, 1, ImportKind.DECLARATION)
    found = list(_read_imports(text, top_end))
    # Only packages of the standard library: nothing that they are asked for is in the repository.
    is_alone = all(statement.module.partition("/")[0] in STANDARD for statement in found)
    yield from (*found, read_mentions(text, top_end, *(() if is_alone else (QUALIFIED_NAME,))))


def _read_imports(text: str, top_end: int) -> Iterator[Import]:
    for match, line in find_statements(STATEMENT, text, top_end):
        if match["single"] is not None:
            yield Import(match["single"], (_name_package(match["alias"], match["single"]),), 0, line)
            continue
        for spec in SPEC.finditer(match["block"]):
            name = _name_package(spec["alias"], spec["module"])
            yield Import(spec["module"], (name,), 0, line + match["block"].count("\n", 0, spec.start()))


def _name_package(alias: str | None, module: str) -> str:
    """Name an imported package as the file does: by its alias, else by its folder.

    >>> _name_package(None, "x.org/yaml.v3"), _name_package(None, "x.org/go-json/v2"), _name_package("q", "x.org/z")
    ('yaml', 'json', 'q')
    """
    return alias or VERSION.sub("", module).rpartition("/")[2].partition(".")[0].removeprefix("go-")


class GoPackages:
    """The folders of one repository that can be imported."""

    def __init__(self, imports: Mapping[str, Sequence[Import]], repo: str, build_files: Mapping[str, str]) -> None:
        sources = {path: statements for path, statements in imports.items() if not path.endswith("_test.go")}
        self._files: dict[str, list[str]] = {}
        for path in sorted(sources):
            self._files.setdefault(find_folder(path), []).append(path)
        self._index = PackageIndex(sources, lambda path, _: (find_folder(path),))
        modules = dict(_list_modules(build_files))
        self._modules = modules or self._infer_module(imports, name_root(repo))

    def _infer_module(self, imports: Mapping[str, Sequence[Import]], root: str) -> dict[str, str]:
        """Guess the path of the module at the top: the one named as the repository, or that most folders fit."""
        modules = {s.module for statements in imports.values() for s in statements if s.kind is ImportKind.IMPORT}
        votes: Counter[str] = Counter()
        for module in sorted(modules):
            if module.partition("/")[0] in STANDARD:
                continue
            if VERSION.sub("", module).rpartition("/")[2] == root:
                votes[module] += len(modules)
            start = module.find("/")
            while start >= 0:
                if module[start + 1 :] in self._files:
                    is_named = VERSION.sub("", module[:start]).rpartition("/")[2] == root
                    votes[module[:start]] += len(modules) if is_named else 1
                start = module.find("/", start + 1)
        # One folder that fits may be chance: many modules have a `json`.
        fitting = [module for module, count in votes.items() if count > 1]
        return {max(fitting, key=lambda module: (votes[module], -len(module), module)): ""} if fitting else {}

    def find_targets(self, path: str, statements: Sequence[Import]) -> Iterator[str]:
        """Yield the files of what is mentioned from each imported folder, and from the file's own."""
        mentions = set(list_names(statements, ImportKind.MENTION))
        own = find_folder(path)
        if own in self._files:
            yield from self._index.find_mentions(own, mentions, path)
        for statement in statements:
            folder = self._find_package(statement.module) if statement.kind is ImportKind.IMPORT else None
            if folder is not None and folder != own:
                before = f"{statement.names[0]}."
                names = {name.removeprefix(before) for name in mentions if name.startswith(before)}
                targets = tuple(self._index.find_mentions(folder, names, path))
                yield from targets or (self._find_main_file(folder),)

    def _find_package(self, module: str) -> str | None:
        for root, folder in self._modules.items():
            if module == root or module.startswith(root + "/"):
                inside = f"{folder}/{module[len(root) + 1 :]}".strip("/")
                if inside in self._files:
                    return inside
        return None

    def _find_main_file(self, folder: str) -> str:
        files = self._files[folder]
        name = folder.rpartition("/")[2]
        return next((path for path in files if find_stem(path) == name), files[0])


def _list_modules(build_files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """List the paths of modules and their folders: by their own word, else by that of a module that imports them."""
    manifests = [(find_folder(p), text) for p, text in sorted(build_files.items()) if p.rpartition("/")[2] == "go.mod"]
    for folder, text in manifests:
        for module, place in REPLACEMENT.findall(text):
            if (inside := join_path(folder, place)) is not None:
                yield module, inside
    for folder, text in manifests:
        if match := MODULE.search(text):
            yield match[1], folder
