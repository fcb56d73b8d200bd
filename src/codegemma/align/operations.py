"""What the exercises ask for: small operations on texts, lists and numbers, spelled with care and without.

**In**: nothing.
**Out**: `OPERATIONS`: the words, a Python expression of `x`, one that people write too, and what is right.
**Not**: problems (`exercises.py`).

`careless` fails at an edge that the words name: nothing there, one thing there, zero, capitals, a tie with the border.
`right` is written apart from the spellings, in plain loops where that is not the same expression again, and tests hold
the careful spelling against it. `{n}` stands for a small number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "words", "numbers", "number"]
NOUNS: dict[Kind, str] = {
    "text": "a string", "words": "a list of words", "numbers": "a list of integers", "number": "an integer",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of a problem; `takes` and `gives` say what it can follow and be followed by."""

    name: str
    takes: Kind
    gives: Kind
    words: str
    careful: str
    right: Callable[[Any, int], Any]
    careless: str | None = None

    @property
    def has_number(self) -> bool:
        """Whether a number belongs to it."""
        return "{n}" in self.words


def _keep_first(x: list[Any], n: int = 0) -> list[Any]:  # noqa: ARG001
    seen: list[Any] = []
    for item in x:
        if item not in seen:
            seen.append(item)
    return seen


def _sum_up(x: list[int], n: int) -> list[int]:  # noqa: ARG001
    sums, total = [], 0
    for item in x:
        total += item
        sums.append(total)
    return sums


def _swap_ends(x: str, n: int) -> str:  # noqa: ARG001
    signs = list(x)
    if signs:
        signs[0], signs[-1] = signs[-1], signs[0]
    return "".join(signs)


def _divide_words(x: str, n: int) -> list[str]:  # noqa: ARG001
    words = [""]
    for sign in x:
        words = [*words, ""] if sign.isspace() else [*words[:-1], words[-1] + sign]
    return [word for word in words if word]


def _find_extreme(x: list[int], n: int) -> int:
    """Find the largest for 1, the smallest for -1; 0 where there is none."""
    return sorted(x)[-1 if n > 0 else 0] if len(x) else 0


OPERATIONS = (
    # texts
    Operation("drop_first", "text", "text", "drop the first {n} characters", "x[{n}:]", lambda x, n: x[n:]),
    Operation("keep_first", "text", "text", "keep the first {n} characters", "x[:{n}]", lambda x, n: x[:n]),
    Operation("keep_last", "text", "text", "keep the last {n} characters", "x[-{n}:]",
              lambda x, n: "".join(reversed(list(reversed(x))[:n]))),
    Operation("upper", "text", "text", "make it upper case", "x.upper()", lambda x, n: "".join(c.upper() for c in x)),
    Operation("lower", "text", "text", "make it lower case", "x.lower()", lambda x, n: "".join(c.lower() for c in x)),
    Operation("reverse_text", "text", "text", "turn it around", "x[::-1]", lambda x, n: "".join(reversed(x))),
    Operation("repeat", "text", "text", "repeat it {n} times", "x * {n}", lambda x, n: "".join(x for _ in range(n))),
    Operation("dash", "text", "text", "put a dash between the characters", '"-".join(x)',
              lambda x, n: "".join(c + "-" for c in x)[:-1] if x else ""),
    Operation("letters", "text", "text", "keep the letters", '"".join(c for c in x if c.isalpha())',
              lambda x, n: "".join(filter(str.isalpha, x))),
    Operation("no_vowels", "text", "text", "drop the vowels, capitals too",
              '"".join(c for c in x if c not in "aeiouAEIOU")',
              lambda x, n: "".join(c for c in x if c.lower() not in set("aeiou")),
              '"".join(c for c in x if c not in "aeiou")'),
    Operation("capital", "text", "text", "capitalize the first letter, leave the rest", "x[:1].upper() + x[1:]",
              lambda x, n: x[0].upper() + x[1:] if len(x) else x, "x.capitalize()"),
    Operation("double_first", "text", "text", "double the first character, if any", "x[:1] + x",
              lambda x, n: x[0] + x if len(x) else x, "x[0] + x"),
    Operation("swap_ends", "text", "text", "swap the first and last characters",
              "x[-1] + x[1:-1] + x[0] if len(x) > 1 else x", _swap_ends, "x[-1] + x[1:-1] + x[0]"),
    Operation("shorten", "text", "text", "cut it to {n} characters, with ... if it was longer",
              'x if len(x) <= {n} else x[:{n}] + "..."',
              lambda x, n: "".join([*x[:n], *("..." if x[n:] else "")]), 'x[:{n}] + "..."'),
    Operation("length", "text", "number", "count the characters", "len(x)", lambda x, n: sum(1 for _ in x)),
    Operation("count_a", "text", "number", "count the a's, capitals too", 'x.lower().count("a")',
              lambda x, n: sum(c in "aA" for c in x), 'x.count("a")'),
    Operation("split", "text", "words", "split it into words", "x.split()", _divide_words, 'x.split(" ")'),
    # words
    Operation("reverse_words", "words", "words", "reverse the order of the words", "x[::-1]",
              lambda x, n: list(reversed(x))),
    Operation("sort_words", "words", "words", "sort the words, ignoring case", "sorted(x, key=str.lower)",
              lambda x, n: [w for _, _, w in sorted((w.lower(), i, w) for i, w in enumerate(x))], "sorted(x)"),
    Operation("unique_words", "words", "words", "drop repeated words, keep the order", "list(dict.fromkeys(x))",
              _keep_first, "sorted(set(x))"),
    Operation("long_words", "words", "words", "keep words of more than {n} letters", "[w for w in x if len(w) > {n}]",
              lambda x, n: [w for w in x if w[n:]], "[w for w in x if len(w) >= {n}]"),
    Operation("upper_words", "words", "words", "make each word upper case", "[w.upper() for w in x]",
              lambda x, n: list(map(str.upper, x))),
    Operation("initials", "words", "words", "take the first letter of each word", "[w[:1] for w in x]",
              lambda x, n: ["".join(w[i] for i in range(len(w)) if i == 0) for w in x], "[w[0] for w in x]"),
    Operation("word_lengths", "words", "numbers", "take the length of each word", "[len(w) for w in x]",
              lambda x, n: list(map(len, x))),
    Operation("count_words", "words", "number", "count the words", "len(x)", lambda x, n: sum(1 for _ in x)),
    Operation("join", "words", "text", "join the words with a dash", '"-".join(x)',
              lambda x, n: "".join(w + "-" for w in x)[:-1] if x else ""),
    Operation("longest", "words", "text", "take the longest word, or an empty string", 'max(x, key=len, default="")',
              lambda x, n: next((w for w in x if all(len(w) >= len(v) for v in x)), ""), "max(x, key=len)"),
    Operation("last_word", "words", "text", "take the last word, or an empty string", 'x[-1] if x else ""',
              lambda x, n: next(reversed(x), ""), "x[-1]"),
    # numbers
    Operation("sort", "numbers", "numbers", "sort them", "sorted(x)", lambda x, n: sorted(x)),
    Operation("sort_down", "numbers", "numbers", "sort them, largest first", "sorted(x, reverse=True)",
              lambda x, n: [-v for v in sorted(-v for v in x)]),
    Operation("reverse", "numbers", "numbers", "reverse their order", "x[::-1]", lambda x, n: list(reversed(x))),
    Operation("add", "numbers", "numbers", "add {n} to each", "[v + {n} for v in x]", lambda x, n: [n + v for v in x]),
    Operation("square", "numbers", "numbers", "square each", "[v * v for v in x]", lambda x, n: [v**2 for v in x]),
    Operation("evens", "numbers", "numbers", "keep the even ones", "[v for v in x if v % 2 == 0]",
              lambda x, n: [v for v in x if not v & 1]),
    Operation("positive", "numbers", "numbers", "keep those above zero", "[v for v in x if v > 0]",
              lambda x, n: [v for v in x if str(v)[0] not in "-0"], "[v for v in x if v >= 0]"),
    Operation("at_most", "numbers", "numbers", "keep those up to and with {n}", "[v for v in x if v <= {n}]",
              lambda x, n: [v for v in x if not v > n], "[v for v in x if v < {n}]"),
    Operation("unique", "numbers", "numbers", "drop repeated ones, keep the order", "list(dict.fromkeys(x))",
              _keep_first, "sorted(set(x))"),
    Operation("halve", "numbers", "numbers", "halve each, rounding down", "[v // 2 for v in x]",
              lambda x, n: [v >> 1 for v in x], "[int(v / 2) for v in x]"),
    Operation("running", "numbers", "numbers", "take the running sums",
              "[sum(x[: i + 1]) for i in range(len(x))]", _sum_up, "[sum(x[:i]) for i in range(len(x))]"),
    Operation("gaps", "numbers", "numbers", "take the differences of neighbors", "[b - a for a, b in zip(x, x[1:])]",
              lambda x, n: [x[i + 1] - x[i] for i in range(len(x) - 1)], "[a - b for a, b in zip(x, x[1:])]"),
    Operation("first_numbers", "numbers", "numbers", "keep the first {n} of them", "x[:{n}]",
              lambda x, n: [v for i, v in enumerate(x) if i < n]),
    Operation("total", "numbers", "number", "add them up", "sum(x)", lambda x, n: (_sum_up(x, n) or [0])[-1]),
    Operation("count", "numbers", "number", "count them", "len(x)", lambda x, n: sum(1 for _ in x)),
    Operation("largest", "numbers", "number", "take the largest, or 0", "max(x, default=0)",
              lambda x, n: _find_extreme(x, 1), "max(x)"),
    Operation("smallest", "numbers", "number", "take the smallest, or 0", "min(x, default=0)",
              lambda x, n: _find_extreme(x, -1), "min(x)"),
    Operation("last", "numbers", "number", "take the last, or 0", "x[-1] if x else 0",
              lambda x, n: next(reversed(x), 0), "x[-1]"),
    # a number
    Operation("double", "number", "number", "double it", "x * 2", lambda x, n: x + x),
    Operation("increase", "number", "number", "add {n} to it", "x + {n}", lambda x, n: n + x),
    Operation("absolute", "number", "number", "drop its sign", "abs(x)", lambda x, n: max(x, -x)),
    Operation("half", "number", "number", "halve it, rounding down", "x // 2", lambda x, n: x >> 1, "int(x / 2)"),
    Operation("last_digit", "number", "number", "take its last digit", "abs(x) % 10",
              lambda x, n: int(str(x)[-1]), "x % 10"),
    Operation("spell", "number", "text", "write it as text", "str(x)", lambda x, n: f"{x}"),
)  # fmt: skip
BY_NAME = {operation.name: operation for operation in OPERATIONS}
