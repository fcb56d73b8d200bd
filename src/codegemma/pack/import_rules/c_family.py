"""Includes of C and C++.

**In**: `#include "..."` and `<...>`, also under a condition: which branch is compiled is not known here.
**Out**: the header in the file's own folder, else the nearest one whose path ends with what is included.
**Not**: include paths of a build system, modules of C++20, and includes spelled by a macro.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from codegemma.pack.import_rules.statement import (
    Import,
    SuffixIndex,
    find_folder,
    find_statements,
    join_path,
    name_root,
)

INCLUDE = re.compile(
    r"""^[ \t]*+\#[ \t]*+(?:include|include_next|import)[ \t]*+(?:"([^"\n]++)"|<([^>\n]++)>)""",
    re.MULTILINE | re.VERBOSE,
)
# In angle brackets these mean the compiler's own, whatever a repository has of that name.
STANDARD_HEADERS = frozenset(
    """assert.h complex.h ctype.h errno.h fenv.h float.h inttypes.h iso646.h limits.h locale.h math.h setjmp.h signal.h
    stdalign.h stdarg.h stdatomic.h stdbool.h stddef.h stdint.h stdio.h stdlib.h stdnoreturn.h string.h tgmath.h
    threads.h time.h uchar.h unistd.h wchar.h wctype.h windows.h""".split()  # noqa: SIM905 - words are read more easily than a list
)


def extract(text: str, top_end: int) -> Iterator[Import]:
    """Read the includes; one in quotes has level 1.

    >>> [(i.module, i.level) for i in extract('#include "a/b.h"\\n# include <c.h>\\n', 200)]
    [('a/b.h', 1), ('c.h', 0)]
    """
    for match, line in find_statements(INCLUDE, text, top_end):
        quoted, angled = match.groups()
        yield Import((quoted or angled).strip(), (), 1 if quoted else 0, line)


class Headers:
    """The files of one repository that can be included."""

    def __init__(self, imports: Mapping[str, Sequence[Import]], repo: str, _build_files: Mapping[str, str]) -> None:
        self._paths = imports
        self._index = SuffixIndex(imports, name_root(repo))

    def find_targets(self, path: str, statements: Sequence[Import]) -> Iterator[str]:
        """Yield the file that each include means."""
        for statement in statements:
            target = self._find(path, statement)
            if target is not None:
                yield target

    def _find(self, importer: str, statement: Import) -> str | None:
        if statement.level:
            beside = join_path(find_folder(importer), statement.module)
            if beside in self._paths:
                return beside
        elif statement.module in STANDARD_HEADERS:
            return None
        return self._index.find(join_path("", statement.module.lstrip("./")) or "", importer)
