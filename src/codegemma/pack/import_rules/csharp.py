"""Usings of C#.

**In**: `using` (static, global, of an alias) and `namespace`, with braces or for the whole file.
**Out**: statements for `packages.NestedNamespaces`.
**Not**: global usings of other files. A type is found by the name of its file, as is the convention.
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


def extract(text: str, top_end: int) -> Iterator[Import]:
    """Read namespace, usings and the types that are mentioned; the first namespace counts.

    >>> [(i.module, i.names) for i in extract("using A.B;\\nusing static C.D;\\nnamespace E.F { }\\n", 200)]
    [('E.F', ()), ('A.B', ('*',)), ('C.D', ()), ('', ('A', 'C', 'E'))]
    """
    namespace = None
    imports = []
    for match, line in find_statements(STATEMENT, text, top_end):
        if match["name"] is not None:
            is_type = match["static"] is not None or match["alias"] is not None
            imports.append(Import(match["name"], () if is_type else ("*",), 0, line))
        elif namespace is None:
            namespace = Import(match["namespace"], (), 0, line, ImportKind.DECLARATION)
    if namespace is not None:
        yield namespace
    yield from (*imports, read_mentions(text, top_end))
