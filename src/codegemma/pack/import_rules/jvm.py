"""Imports of Java and Kotlin, which import each other's types.

**In**: `package`, `import` (static, of a member, of everything, renamed), and Kotlin's declarations at the top level.
**Out**: statements for `packages.Namespaces`.
**Not**: Kotlin's declarations on a file's very first line.
"""

import re
from collections.abc import Iterator

from codegemma.pack.import_rules.statement import Import, ImportKind, find_statements, read_mentions

STATEMENT = re.compile(
    r"""^[ \t]*+(?:
        package[ \t]++(?P<package>[\w.`]++)
      | import[ \t]++(?:static[ \t]++)?+(?P<name>[\w.`]++)(?P<star>\*?+)
    )""",
    re.MULTILINE | re.VERBOSE,
)
# From the line end on, so that the search for it is fast.
KOTLIN_DECLARATION = re.compile(
    r"\n(?:[a-z]{2,12} ){0,6}(?:(?P<function>fun|va[lr])|class|object|interface|typealias) (?P<head>[^\n({:=]{1,200})"
)
KOTLIN_NAME = re.compile(r"\w+")


def extract_java(text: str, top_end: int) -> Iterator[Import]:
    """Read package, imports and the types that are mentioned.

    >>> [(i.module, i.names) for i in extract_java("package a.b;\\nimport static c.D.e;\\nimport f.*;\\nG g;\\n", 200)]
    [('a.b', ()), ('c.D.e', ()), ('f', ('*',)), ('', ('G',))]
    """
    yield from _extract(text, top_end, ())


def extract_kotlin(text: str, top_end: int) -> Iterator[Import]:
    """Read package, imports, the types that are mentioned, and what the top level declares.

    >>> [(i.module, i.names) for i in extract_kotlin("package a\\nimport c.f\\nfun <T> List<T>.g() = f()\\n", 200)]
    [('a', ('g',)), ('c.f', ()), ('', ('List', 'T'))]
    """
    yield from _extract(text, top_end, tuple(_list_declared(text)))


def _extract(text: str, top_end: int, declared: tuple[str, ...]) -> Iterator[Import]:
    package = Import("", declared, 0, 1, ImportKind.DECLARATION)
    imports = []
    for match, line in find_statements(STATEMENT, text, top_end):
        if match["package"] is not None:
            package = Import(match["package"].replace("`", ""), declared, 0, line, ImportKind.DECLARATION)
        else:
            name = match["name"].replace("`", "").strip(".")
            imports.append(Import(name, ("*",) if match["star"] else (), 0, line))
    yield from (package, *imports, read_mentions(text, top_end))


def _list_declared(text: str) -> Iterator[str]:
    for match in KOTLIN_DECLARATION.finditer(text):
        # The name stands last in `fun <T> List<T>.name(` and first in `class Name<T>`.
        head = match["head"].partition(" by ")[0]
        words = KOTLIN_NAME.findall(head)
        if words:
            yield words[-1 if match["function"] else 0]
