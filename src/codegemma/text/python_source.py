"""Parses Python that somebody else wrote, a model as a rule.

**In**: text.
**Out**: its tree, or nothing.
**Not**: programs with syntax errors (`syntax.py`), and running any.
"""

import ast
import threading
import warnings

# What is done about warnings is one for all threads: two that put it back in another order would leave it changed.
_WARNINGS = threading.Lock()


def parse_python(text: str) -> ast.Module | None:
    """Parse a program, or say that it is none.

    >>> parse_python("x = 1") is None, parse_python("x = ") is None
    (False, True)
    """
    try:
        return parse_quietly(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def parse_quietly(text: str) -> ast.Module:
    """Parse a program; an escape that a later Python refuses is its own affair.

    Raises:
        SyntaxError: it is none; so do `ValueError`, `RecursionError` and `MemoryError`.
    """
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)
