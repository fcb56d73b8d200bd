"""Parses Python that somebody else wrote, a model as a rule.

**In**: text.
**Out**: its tree, or nothing.
**Not**: programs with syntax errors (`syntax.py`), and running any.
"""

import ast
import warnings


def parse_python(text: str) -> ast.Module | None:
    """Parse a program, or say that it is none.

    >>> parse_python("x = 1") is None, parse_python("x = ") is None
    (False, True)
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an escape that a later Python refuses is the program's affair
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
