"""Plug-ins that find names: a small real one, and the ways in which one may fail."""

import re
from collections.abc import Iterator

NOT_A_FUNCTION = 7
# First names as they are written in code and comments; a word that begins with a capital after one is a family name.
FIRST_NAMES = ("Ann", "Guido", "Tim", "Barry", "Fredrik", "Jürgen", "Skip", "Marc", "Raymond", "jane", "super", "nick")
_NAMES = re.compile(rf"(?<![^\W\d_])(?:{'|'.join(FIRST_NAMES)})(?:[ ]van)?(?:[ -][A-ZÄÖÜ][^\W\d_]+)*(?![^\W\d_])")


def find_names(text: str) -> Iterator[tuple[int, int]]:
    """Give the spans of listed names with what follows them."""
    return (match.span() for match in _NAMES.finditer(text))


def fail(text: str) -> list[tuple[int, int]]:
    raise KeyError("no model here")


def leave_the_text(text: str) -> list[tuple[int, int]]:
    return [(0, len(text) + 1)]


def turn_round(text: str) -> list[tuple[int, int]]:
    return [(3, 1)]


def give_words(text: str) -> list[str]:
    return ["Ann", "Lee"]


def give_nothing(text: str) -> None:
    return None
