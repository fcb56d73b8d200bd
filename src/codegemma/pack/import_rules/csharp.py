"""Usings of C#, which name namespaces: the types that a text names decide which of a namespace's files it means.

**In**: `using` (static, of an alias, global), namespaces with braces or for the whole file, one in another too, and
what they declare: types, attributes, extension methods; the `Using` items of project files.
**Out**: the files of the types that are named; of a namespace of which no type is, those of extension methods.
**Not**: types within types, and which of several conditions is compiled.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from codegemma.pack.import_rules.packages import Namespaces, list_names
from codegemma.pack.import_rules.statement import (
    Import,
    ImportKind,
    find_folder,
    find_statements,
    read_mentions,
)

USING = re.compile(
    r"""^[ \t]*+(?P<global>global[ \t]++)?+using[ \t]++(?P<static>static[ \t]++)?+(?P<alias>\w++[ \t]*+=[ \t]*+)?+
        (?:global::)?+(?P<name>[\w.]++)[ \t]*+;""",
    re.MULTILINE | re.VERBOSE,
)
# From the line end on, so that the search for it is fast.
DECLARATION = re.compile(
    r"\n([ \t]{0,16})(?:[a-z]{2,12} ){0,6}"
    r"(class|struct|interface|enum|record|delegate [\w<>\[\]?.]{1,80}|namespace) ([\w.]+)"
)
EXTENSION = re.compile(r"\((?=\s{0,80}this (?!as |is ))")
EXTENSION_NAME = re.compile(r"(\w+)(?:<[^<>()]*>)?$")
MAX_NAME_CHARS = 200
# What is declared and mentioned under a sign of its own: an attribute without the end of its name, and a method.
ATTRIBUTE, METHOD = "[", "."
ATTRIBUTE_END = "Attribute"
MENTIONS = (re.compile(r"\[[A-Z]\w*"), re.compile(r"\.[A-Z]\w*(?=[(<])"))
# A tab, or the usual four spaces: what is deeper in its namespace than this is a type within a type.
LEVEL_COLUMNS = 4
# Level of a using that holds for a whole project.
GLOBAL = 1
PROJECT_ENDS = (".csproj", ".props")
USING_ITEM = re.compile(
    r"""<Using\s[^<>]{0,200}?\bInclude\s?=\s?["']([\w.]{1,200})["'](?![^<>]{0,200}(?:Static|Alias))"""
)


def extract(text: str, top_end: int) -> Iterator[Import]:
    """Read namespaces with what they declare, usings at the top, and what is mentioned anywhere.

    >>> [(i.module, i.names) for i in extract("using A.B;\\nusing static C.D;\\nnamespace E.F;\\nclass G {}\\n", 200)]
    [('E.F', ('G',)), ('A.B', ('*',)), ('C.D', ()), ('', ('A', 'C', 'E', 'G'))]
    """
    yield from _read_namespaces(text)
    for match, line in find_statements(USING, text, top_end):
        is_type = match["static"] is not None or match["alias"] is not None
        yield Import(match["name"], () if is_type else ("*",), GLOBAL if match["global"] else 0, line)
    yield read_mentions(text, len(text), *MENTIONS)


def _read_namespaces(text: str) -> Iterator[Import]:
    """Read each namespace that a file has a part of; without any, it is in the namespace `""`."""
    around = [("", -LEVEL_COLUMNS)]  # the names of open namespaces, and the columns where they begin
    declared: dict[str, set[str]] = {}
    lines: dict[str, int] = {}
    line, position = 1, 0
    for match in DECLARATION.finditer("\n" + text):
        column = len(match[1].expandtabs(LEVEL_COLUMNS))
        if match[2] == "namespace":
            while len(around) > 1 and around[-1][1] >= column:
                around.pop()
            around.append((f"{around[-1][0]}.{match[3]}".strip("."), column))
            line += text.count("\n", position, match.start())
            position = match.start()
            declared.setdefault(around[-1][0], set())
            lines.setdefault(around[-1][0], line)
        elif column <= around[-1][1] + LEVEL_COLUMNS:
            declared.setdefault(around[-1][0], set()).add(match[3])
    package, names = next(((name, names) for name, names in declared.items() if name), ("", declared.get("", set())))
    names |= {METHOD + name for name in _list_extensions(text)}
    declared = {package: names} | declared
    for name, types in declared.items():
        attributes = {ATTRIBUTE + each.removesuffix(ATTRIBUTE_END) for each in types if each.endswith(ATTRIBUTE_END)}
        yield Import(name, tuple(sorted(types | attributes)), 0, lines.get(name, 1), ImportKind.DECLARATION)


def _list_extensions(text: str) -> Iterator[str]:
    for match in EXTENSION.finditer(text):
        name = EXTENSION_NAME.search(text[max(match.start() - MAX_NAME_CHARS, 0) : match.start()])
        if name is not None:
            yield name[1]


class NestedNamespaces(Namespaces):
    """The files of one repository: `A.B.C` sees `A.B` and `A` too, and a using may hold for a whole project."""

    def __init__(self, imports: Mapping[str, Sequence[Import]], repo: str, build_files: Mapping[str, str]) -> None:
        super().__init__(imports, repo, build_files)
        self._projects = {find_folder(path) for path in build_files if path.endswith(PROJECT_ENDS[0])}
        self._global: dict[str, list[Import]] = {}
        for path, text in sorted(build_files.items()):
            if path.endswith(PROJECT_ENDS):
                items = [Import(name, ("*",), GLOBAL, 1) for name in USING_ITEM.findall(text)]
                self._global.setdefault(find_folder(path), []).extend(items)
        for path, statements in sorted(imports.items()):
            found = [s for s in statements if s.kind is ImportKind.IMPORT and s.level == GLOBAL]
            if found:
                self._global.setdefault(self._find_project(path), []).extend(found)

    def _find_project(self, path: str) -> str:
        folder = find_folder(path)
        while folder and folder not in self._projects:
            folder = find_folder(folder)
        return folder

    def find_targets(self, path: str, statements: Sequence[Import]) -> Iterator[str]:
        """Yield the file of each type that is imported, or mentioned from a namespace in sight."""
        folder = path if self._global else ""
        usings: list[Import] = []
        while folder:
            folder = find_folder(folder)
            usings += self._global.get(folder, ())
        own = [s for s in statements if s.kind is not ImportKind.IMPORT or s.level != GLOBAL]
        mentions = set(list_names(statements, ImportKind.MENTION))
        methods = {name for name in mentions if name.startswith(METHOD)}
        types = [Import("", tuple(sorted(mentions - methods)), 0, 1, ImportKind.MENTION)]
        yield from super().find_targets(path, [*usings, *(s for s in own if s.kind is not ImportKind.MENTION), *types])
        for namespace in sorted({s.module for s in (*own, *usings) if s.kind is ImportKind.IMPORT and s.names}):
            # Whoever names none of its types has it for its methods, or for nothing.
            if not any(self._index.find_mentions(namespace, mentions - methods, path)):
                yield from self._index.find_mentions(namespace, methods, path)

    def _list_packages_in_sight(self, path: str, imported: Iterable[Import]) -> Iterable[str]:
        packages = {s.module for s in imported if s.names}
        for package in self._index.packages_of(path):
            while package:
                packages.add(package)
                package = package.rpartition(".")[0]  # noqa: PLW2901 - the one around it
        return sorted(package for package in packages if self._index.has_package(package))
