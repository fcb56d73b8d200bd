"""Usings of C#.

**In**: `using` (static, global, of an alias) and `namespace`, with braces or for the whole file.
**Out**: statements for `packages.NestedNamespaces`.
**Not**: global usings of other files, and which type an extension method belongs to.
"""

import re
from collections.abc import Iterator

from codegemma.pack.import_rules.statement import Import, ImportKind, find_statements, read_mentions

STATEMENT = re.compile(
    r"""^[ \t]*+(?:
        namespace[ \t]++(?P<namespace>[\w.]++)
      | (?:global[ \t]++)?+using[ \t]++(?P<static>static[ \t]++)?+(?P<alias>\w++[ \t]*+=[ \t]*+)?+
        (?:global::)?+(?P<name>[\w.]++)[ \t]*+;
    )""",
    re.MULTILINE | re.VERBOSE,
)

# From the line end on, so that the search for it is fast; deeper than one level are types within types.
DECLARATION = re.compile(
    r"\n(?:[ ]{4}|[ ]{2}|\t)?(?:[a-z]{2,12} ){0,6}"
    r"(?:class|struct|interface|enum|record|delegate [\w<>\[\]?.]{1,80}) (\w+)"
)


def extract(text: str, top_end: int) -> Iterator[Import]:
    """Read namespace, usings and the types that are mentioned; the first namespace counts.

    >>> [(i.module, i.names) for i in extract("using A.B;\\nusing static C.D;\\nnamespace E.F;\\nclass G {}\\n", 200)]
    [('E.F', ('G',)), ('A.B', ('*',)), ('C.D', ()), ('', ('A', 'C', 'E', 'G'))]
    """
    declared = tuple(sorted(set(DECLARATION.findall(text))))
    namespace = Import("", declared, 0, 1, ImportKind.DECLARATION)
    imports = []
    for match, line in find_statements(STATEMENT, text, top_end):
        if match["name"] is not None:
            is_type = match["static"] is not None or match["alias"] is not None
            imports.append(Import(match["name"], () if is_type else ("*",), 0, line))
        elif not namespace.module:
            namespace = Import(match["namespace"], declared, 0, line, ImportKind.DECLARATION)
    yield from (namespace, *imports, read_mentions(text, top_end))
