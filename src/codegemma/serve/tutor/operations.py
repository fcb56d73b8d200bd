"""The steps that exercises are made of: what each does, in words, in pseudo-code, in Python, and as a function.

**In**: nothing.
**Out**: `OPERATIONS` by name. The code and the function of a step agree; a test runs both on drawn inputs.
**Not**: exercises (`exercises.py`), which put steps one after the other.

In `code`, `{a}` is what comes in, `{b}` what goes out; `{k}` is the step's number. `slip` names a step of the same kind
that a person might write by mistake.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import Any

Kind = str  # numbers, number, words, text, table


@dataclass(frozen=True, slots=True)
class Operation:
    """One step. `takes` and `gives` are kinds of values; `difficulty` counts from 1; `k` are the numbers it may use."""

    name: str
    takes: Kind
    gives: Kind
    says: str
    concept: str
    pseudo: str
    code: str
    apply: Callable[[Any, int], Any]
    slip: str = ""
    difficulty: int = 1
    k: tuple[int, ...] = ()


def _keep(name: str, kind: Kind, item: str, words: str, test: str, apply: Any, **more: Any) -> Operation:
    return Operation(
        name, kind, kind, f"keep only the {kind} that {words}",
        "Filtering: walk over the list and put only what fits into a new list.",
        f"for each {item}: if it {_singular(words)}, append it to a new list",
        f"{{b}} = []\nfor {item} in {{a}}:\n    if {test}:\n        {{b}}.append({item})",
        apply, **more,
    )  # fmt: skip


def _change(name: str, kind: Kind, item: str, words: str, expression: str, apply: Any, **more: Any) -> Operation:
    return Operation(
        name, kind, more.pop("gives", kind), words.format(kind=kind, k="{k}"),
        "Mapping: make a new list with one changed value for each old one.",
        f"for each {item}: append the changed {item} to a new list",
        f"{{b}} = []\nfor {item} in {{a}}:\n    {{b}}.append({expression})",
        apply, **more,
    )  # fmt: skip


def _fold(name: str, says: str, start: str, body: str, apply: Any, **more: Any) -> Operation:
    return Operation(
        name, "numbers", "number", says,
        "Accumulating: a variable outside the loop remembers what was seen so far.",
        f"start with {start}; for each number: bring the remembered value up to date",
        f"{{b}} = {start}\nfor number in {{a}}:\n    {body}",
        apply, **more,
    )  # fmt: skip


def _singular(words: str) -> str:
    return words.replace("are ", "is ", 1).replace("have ", "has ", 1).replace("begin ", "begins ", 1)


def _order(name: str, kind: Kind, says: str, call: str, apply: Any, **more: Any) -> Operation:
    return Operation(
        name, kind, kind, says, "Ordering: Python's sorted() makes a new list; `key` and `reverse` say which order.",
        f"make a new list: {says}", f"{{b}} = {call}", apply, **more,
    )  # fmt: skip


_VOWELS = "aeiou"
_ALL = (
    _keep("keep_even", "numbers", "number", "are even", "number % 2 == 0", lambda v, k: [n for n in v if n % 2 == 0],
          slip="keep_odd"),
    _keep("keep_odd", "numbers", "number", "are odd", "number % 2 == 1", lambda v, k: [n for n in v if n % 2 == 1],
          slip="keep_even"),
    _keep("keep_above", "numbers", "number", "are greater than {k}", "number > {k}",
          lambda v, k: [n for n in v if n > k], slip="keep_at_least", k=(0, 2, 3, 5)),
    _keep("keep_at_least", "numbers", "number", "are at least {k}", "number >= {k}",
          lambda v, k: [n for n in v if n >= k], slip="keep_above", k=(0, 2, 3, 5)),
    _keep("keep_multiples", "numbers", "number", "are multiples of {k}", "number % {k} == 0",
          lambda v, k: [n for n in v if n % k == 0], slip="keep_above", k=(3, 4, 5)),
    _change("add", "numbers", "number", "add {k} to each of the {kind}", "number + {k}",
            lambda v, k: [n + k for n in v], slip="multiply", k=(2, 3, 10)),
    _change("multiply", "numbers", "number", "multiply each of the {kind} by {k}", "number * {k}",
            lambda v, k: [n * k for n in v], slip="add", k=(2, 3, 10)),
    _change("square", "numbers", "number", "square each of the {kind}", "number * number",
            lambda v, k: [n * n for n in v], slip="double"),
    _change("double", "numbers", "number", "double each of the {kind}", "number * 2", lambda v, k: [n * 2 for n in v],
            slip="square"),
    _order("sort_up", "numbers", "sort the numbers from smallest to largest", "sorted({a})", lambda v, k: sorted(v),
           slip="sort_down"),
    _order("sort_down", "numbers", "sort the numbers from largest to smallest", "sorted({a}, reverse=True)",
           lambda v, k: sorted(v, reverse=True), slip="sort_up"),
    Operation(
        "drop_first", "numbers", "numbers", "leave out the first {k} numbers",
        "Slicing: values[start:] is the list from a place on; places count from 0.",
        "take what stands from place {k} on", "{b} = {a}[{k}:]", lambda v, k: v[k:], slip="take_first", k=(2, 3),
    ),
    Operation(
        "take_first", "numbers", "numbers", "keep only the first {k} numbers",
        "Slicing: values[:end] is the list up to a place, that place not included.",
        "take what stands before place {k}", "{b} = {a}[:{k}]", lambda v, k: v[:k], slip="drop_first", k=(2, 3),
    ),
    Operation(
        "running_total", "numbers", "numbers", "replace each number by the total of all numbers up to and including it",
        "Accumulating into a list: remember the total so far, and append it at each step.",
        "start with a total of 0; for each number: add it to the total, append the total",
        "total = 0\n{b} = []\nfor number in {a}:\n    total = total + number\n    {b}.append(total)",
        lambda v, k: list(accumulate(v)), slip="double", difficulty=2,
    ),
    Operation(
        "differences", "numbers", "numbers", "replace the numbers by the differences of neighbours, second minus first",
        "Pairs of neighbours: places run from 1, and the neighbour before place i is at i - 1.",
        "for each place from 1 to the end: append the number there minus the one before",
        "{b} = []\nfor i in range(1, len({a})):\n    {b}.append({a}[i] - {a}[i - 1])",
        lambda v, k: [b - a for a, b in pairwise(v)], slip="running_total", difficulty=2,
    ),
    Operation(
        "unique", "numbers", "numbers", "keep each number only where it comes first",
        "Remembering: before you append, ask whether the new list has it already.",
        "for each number: if it is not in the new list yet, append it",
        "{b} = []\nfor number in {a}:\n    if number not in {b}:\n        {b}.append(number)",
        lambda v, k: list(dict.fromkeys(v)), slip="sort_up", difficulty=2,
    ),
    _fold("sum", "give the sum of the numbers", "0", "{b} = {b} + number", lambda v, k: sum(v), slip="count"),
    _fold("count", "give how many numbers there are", "0", "{b} = {b} + 1", lambda v, k: len(v), slip="sum"),
    Operation(
        "largest", "numbers", "number", "give the largest number, or 0 if there is none",
        "Accumulating: remember the best so far, and ask at each step whether there is a better one.",
        "if the list is empty, the answer is 0; start with the first number; for each number: if it is greater, keep it",
        "{b} = {a}[0] if {a} else 0\nfor number in {a}:\n    if number > {b}:\n        {b} = number",
        lambda v, k: max(v, default=0), slip="smallest",
    ),
    Operation(
        "smallest", "numbers", "number", "give the smallest number, or 0 if there is none",
        "Accumulating: remember the best so far, and ask at each step whether there is a better one.",
        "if the list is empty, the answer is 0; start with the first number; for each number: if it is less, keep it",
        "{b} = {a}[0] if {a} else 0\nfor number in {a}:\n    if number < {b}:\n        {b} = number",
        lambda v, k: min(v, default=0), slip="largest",
    ),
    _keep("keep_long", "words", "word", "have more than {k} letters", "len(word) > {k}",
          lambda v, k: [w for w in v if len(w) > k], slip="keep_vowels", k=(2, 3, 4)),
    _keep("keep_vowels", "words", "word", "begin with a vowel (a, e, i, o or u)", 'word[0] in "aeiou"',
          lambda v, k: [w for w in v if w[0] in _VOWELS], slip="keep_long"),
    _change("upper", "words", "word", "write each of the {kind} in capitals", "word.upper()",
            lambda v, k: [w.upper() for w in v], slip="reverse_each"),
    _change("reverse_each", "words", "word", "write each of the {kind} backwards", "word[::-1]",
            lambda v, k: [w[::-1] for w in v], slip="upper"),
    _change("lengths", "words", "word", "replace each of the {kind} by the number of its letters", "len(word)",
            lambda v, k: [len(w) for w in v], gives="numbers"),
    _order("sort_words", "words", "sort the words by the alphabet", "sorted({a})", lambda v, k: sorted(v),
           slip="sort_by_length"),
    _order("sort_by_length", "words", "sort the words by their length, equal ones staying as they stand",
           "sorted({a}, key=len)", lambda v, k: sorted(v, key=len), slip="sort_words"),
    Operation(
        "join", "words", "text", "join the words into one text, with a dash between them",
        "Joining: separator.join(words) puts the separator between the words only.",
        "take a dash and join the words with it", '{b} = "-".join({a})', lambda v, k: "-".join(v),
    ),
    Operation(
        "split", "text", "words", "split the text into its words", "Splitting: text.split() cuts at blanks.",
        "cut the text at its blanks", "{b} = {a}.split()", lambda v, k: v.split(),
    ),
    Operation(
        "count_vowels", "text", "number", "give how many vowels (a, e, i, o, u) the text has",
        "A text is walked over like a list, letter by letter.",
        "start with 0; for each letter: if it is one of aeiou, add 1",
        '{b} = 0\nfor letter in {a}:\n    if letter in "aeiou":\n        {b} = {b} + 1',
        lambda v, k: sum(letter in _VOWELS for letter in v),
    ),
    Operation(
        "without_vowels", "text", "text", "leave all vowels (a, e, i, o, u) out of the text",
        "A text cannot be changed: build a new one, letter by letter.",
        "start with an empty text; for each letter: if it is none of aeiou, add it",
        '{b} = ""\nfor letter in {a}:\n    if letter not in "aeiou":\n        {b} = {b} + letter',
        lambda v, k: "".join(letter for letter in v if letter not in _VOWELS), slip="backwards",
    ),
    Operation(
        "backwards", "text", "text", "write the text backwards", "Slicing: text[::-1] walks from the end.",
        "take the letters from the last to the first", "{b} = {a}[::-1]", lambda v, k: v[::-1], slip="without_vowels",
    ),
    Operation(
        "run_lengths", "text", "text", "shorten runs of the same letter: write the letter and how often it comes in a row",
        "Runs: remember the letter and its count, and write both down when another letter comes.",
        "for each letter: if it is the one before, add 1; else write down the run before and begin a new one",
        '{b} = ""\ncount = 0\nfor i in range(len({a})):\n    count = count + 1\n'
        "    if i + 1 == len({a}) or {a}[i + 1] != {a}[i]:\n        {b} = {b} + {a}[i] + str(count)\n        count = 0",
        lambda v, k: "".join(f"{letter}{len(list(run))}" for letter, run in groupby(v)), slip="backwards", difficulty=3,
    ),
    Operation(
        "count_words", "words", "table", "give a dictionary that tells how often each word comes",
        "Counting in a dictionary: counts.get(word, 0) is what was counted so far.",
        "start with an empty dictionary; for each word: its count is what it was, or 0, and 1 more",
        "{b} = {{}}\nfor word in {a}:\n    {b}[word] = {b}.get(word, 0) + 1", lambda v, k: dict(Counter(v)),
        slip="group_by_letter", difficulty=2,
    ),
    Operation(
        "group_by_letter", "words", "table", "give a dictionary from each first letter to the list of words that have it",
        "Grouping in a dictionary: setdefault(key, []) gives the list of a key, and makes it where there is none.",
        "start with an empty dictionary; for each word: append it to the list of its first letter",
        "{b} = {{}}\nfor word in {a}:\n    {b}.setdefault(word[0], []).append(word)",
        lambda v, k: {letter: [w for w in v if w[0] == letter] for letter in dict.fromkeys(w[0] for w in v)},
        slip="count_words", difficulty=3,
    ),
)  # fmt: skip
OPERATIONS: Mapping[str, Operation] = {operation.name: operation for operation in _ALL}
