"""Replaces names of people by pseudonyms, where an operator names a plug-in that finds them.

**In**: a text, what a plug-in says of it, and what `personal.py` has found already.
**Out**: `Redaction`s of kind `name` beside the others: word for word, keyed and consistent within a repository.
**Not**: finding names: that takes a model, and none is shipped. A name that the plug-in misses stays.

A plug-in is a function of a text that gives the spans of names: pairs of `start` and `end`, in characters, half-open.
It is named by an entry point of the group `codegemma.names`, or as `module:function`. Nothing of a corpus is ever run;
a plug-in is code that the operator has installed and named, loaded only then and with all the rights of the build.

Only letters change, each word into one of like form, and a word that some language reserves stays, so that what was an
identifier, a text or a comment still is. Where a name was found once in a file it is replaced everywhere in that file:
an identifier renamed in one place alone would no longer be the same.
"""

import functools
import importlib.metadata
import keyword
import operator
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from codegemma.corpus.personal import CONSONANTS, VOWELS, Draw, Redaction
from codegemma.errors import InputError

NAME = "name"
ENTRY_POINT_GROUP = "codegemma.names"
MAX_WORD_CHARS = 12

NamesPlugin = Callable[[str], Iterable[tuple[int, int]]]

_WORD = re.compile(r"[^\W\d_]+")
_WORD_END = r"(?![^\W\d_])"
_OTHER_RESERVED = """
    abstract as async auto base bool boolean break byte case catch chan char class const constructor crate debugger
    decimal default defer delegate delete do double dyn enum event explicit export extends extern fallthrough false
    final fixed float fn for foreach friend fun func function get go goto if impl implements import in init inline
    instanceof int interface internal is let lock long loop map match mod module move mut mutable namespace native new
    nil null object of operator out override package params private protected pub public range readonly ref register
    return sealed select self set short signed sizeof static string struct super switch template this throw throws
    trait true try type typedef typeof union unsafe unsigned use using val var virtual void volatile when where while
"""
_RESERVED = frozenset((*keyword.kwlist, *keyword.softkwlist, *_OTHER_RESERVED.split()))


@functools.cache
def load_names_plugin(name: str | None) -> NamesPlugin | None:
    """Load a plug-in by its entry point or as `module:function`; none named is none loaded.

    >>> load_names_plugin(None) is None
    True

    Raises:
        InputError: there is none of that name, or loading it fails; the installed ones are listed.
    """
    if name is None:
        return None
    installed = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in installed and ":" not in name:
        known = ", ".join(sorted(installed)) or "none is installed"
        raise InputError(f"names plug-in {name!r} is unknown; wanted module:function or one of: {known}")
    point = installed.get(name) or EntryPoint(name, name, ENTRY_POINT_GROUP)
    try:
        plugin = point.load()
    except Exception as error:
        raise InputError(f"names plug-in {name!r} cannot be loaded: {_describe(error)}") from error
    if not callable(plugin):
        raise InputError(f"names plug-in {name!r} is {type(plugin).__name__}; wanted a function of a text")
    return plugin  # type: ignore[no-any-return]


def describe_names_plugin(name: str | None) -> str:
    """Say in a report who looked for names.

    >>> describe_names_plugin(None)
    'names of people: no plug-in given, none replaced'
    """
    if name is None:
        return "names of people: no plug-in given, none replaced"
    module = getattr(load_names_plugin(name), "__module__", "") or name
    package = module.partition(".")[0]
    try:
        return f"names of people: plug-in {name} ({package} {importlib.metadata.version(package)})"
    except importlib.metadata.PackageNotFoundError:
        return f"names of people: plug-in {name}"


def find_names(
    text: str, plugin: NamesPlugin, repo: str, key: str = "", taken: Sequence[Redaction] = ()
) -> list[Redaction]:
    """Add the names of people to the redactions that there are; both in the order of the text, and no two overlap.

    >>> find_names("# by Ann Lee", lambda text: [(5, 12)], "repo")[0].replacement
    'Sidi Buk'

    Raises:
        InputError: the plug-in fails, or gives what are no spans of the text.
    """
    values = {text[start:end] for start, end in _ask(plugin, text)}
    redactions = {redaction.start: redaction for redaction in taken}
    taken_ends = [redaction.end for redaction in taken]
    for start, end in _find_values(text, values):
        following = bisect_right(taken_ends, start)
        if following == len(taken) or taken[following].start >= end:
            redactions[start] = Redaction(start, end, NAME, _invent(text, start, end, repo, key))
    return [redactions[start] for start in sorted(redactions)]


def _ask(plugin: NamesPlugin, text: str) -> list[tuple[int, int]]:
    try:
        spans = [_check_span(span, len(text)) for span in plugin(text)]
    except Exception as error:
        named = getattr(plugin, "__qualname__", repr(plugin))
        where = f"names plug-in {getattr(plugin, '__module__', '?')}:{named}"
        raise InputError(f"{where} failed on a text of {len(text)} characters: {_describe(error)}") from error
    return spans


def _check_span(span: Any, chars: int) -> tuple[int, int]:
    start, end = (operator.index(bound) for bound in span)
    if not 0 <= start < end <= chars:
        raise ValueError(f"span ({start}, {end}); wanted 0 <= start < end <= {chars}")
    return start, end


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def _find_values(text: str, values: set[str]) -> Iterator[tuple[int, int]]:
    """Find each value wherever it stands and is no part of a longer word; where several begin, the longest such."""
    # A backslash may begin an escape, whose letters are no name's.
    wanted = sorted((v for v in values if "\\" not in v and _WORD.search(v)), key=lambda value: (-len(value), value))
    if not wanted:
        return
    pattern = re.compile("|".join(f"{re.escape(value)}{_WORD_END if value[-1].isalpha() else ''}" for value in wanted))
    position = 0
    while match := pattern.search(text, position):
        start, end = match.span()
        if text[start].isalpha() and text[start - 1 : start].isalpha() and not _is_escape(text, start - 1):
            position = start + 1
        else:
            yield start, end
            position = end


def _is_escape(text: str, position: int) -> bool:
    """Say whether the letter here belongs to an escape such as a line end's."""
    before = text[max(position - 64, 0) : position]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _invent(text: str, start: int, end: int, repo: str, key: str) -> str:
    value = text[start:end]
    # The letter right after a backslash is an escape's.
    kept = 1 if start and value[0].isalpha() and _is_escape(text, start) else 0
    return value[:kept] + _WORD.sub(lambda match: _invent_word(match.group(), repo, key), value[kept:])


def _invent_word(word: str, repo: str, key: str) -> str:
    if word in _RESERVED:
        return word
    draw = Draw(key, repo, NAME, word)
    size = min(len(word), MAX_WORD_CHARS)
    while True:
        letters = (VOWELS if i % 2 else CONSONANTS for i in range(size))
        invented = "".join(choices[draw.below(len(choices))] for choices in letters)
        if invented not in _RESERVED:
            break
        size += 1
    if word.isupper():
        return invented.upper()
    return invented.capitalize() if word[0].isupper() else invented
