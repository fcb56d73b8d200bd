"""Finds what a file has in common with the benchmarks: ten words in a row, or a whole text whatever its white space.

**In**: the texts of benchmark items (`benchmarks.py`), what the operator allows; then a file's text and tokens.
**Out**: which items stand in the file, by which rule, in which line.
**Not**: a paraphrase, a translation, or an item too short to tell from everyday code: `unguarded` names those.

Ten words in a row are DeepSeek-Coder's rule, the text without white space is StarCoder2's. Of 44,150 files of Python
packages (532 MB), 5 have ten such words of HumanEval, MBPP or GSM8K and none has a whole text; the command that
counts them is `benchmarks/decontamination.py`.
"""

import bisect
import functools
import itertools
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import ahocorasick_rs
import numpy as np
import xxhash
from jaxtyping import Bool, Int64, UInt64

from codegemma.corpus.benchmarks import BenchmarkText, read_benchmarks
from codegemma.corpus.tokens import Tokens, encode_text, hash_runs, hash_tokens
from codegemma.errors import InputError

STAGE = "decontaminate"

# DeepSeek-Coder, section 2: any 10-gram of a test set. Words here are those of the token pass; signs are passed over.
GRAM_WORDS = 10
# A gram with fewer different words of two letters or more says nothing: `1, 2, 3, ...`, `for i in range(n): for j in`.
MIN_DISTINCT_WORDS = 6
# A gram of so many items of one benchmark is its boilerplate, `Write a function to find ...`; `leaks.py` has the same.
MAX_OWNERS = 50
# A text of fewer bytes is no evidence: `return x + y`. The longest that stood in a package by chance had 23.
MIN_SIGNS = 24
# Imports are everybody's; the lines around them are guarded all the same.
_IMPORTS = re.compile(r"(?m)^\s*(?:import\s+[\w.]+.*|from\s+[\w.]+\s+import\b.*|#\s*include\b.*|using\s+[\w.:]+;)$")
# Hashes with the same first 22 bits share a place: four megabytes answer for nearly all grams of a file.
_FILTER_SHIFT = np.uint64(64 - 22)

_ALLOWED_KEYS = {"items", "texts"}


class Rule(StrEnum):
    """By what a match was found."""

    TEN_WORDS = "ten_words"
    WHOLE_TEXT = "whole_text"


class Contamination(NamedTuple):
    """An item of a benchmark that stands in a file, and the first line of what was found, counted from 1."""

    benchmark: str
    item: str
    rule: Rule
    line: int


@dataclass(frozen=True, slots=True)
class AllowList:
    """What is no contamination: items as `benchmark/item`, and texts: what stands in one of them is no evidence."""

    items: frozenset[str] = frozenset()
    texts: tuple[str, ...] = ()
    digest: str | None = None

    def describe(self) -> str:
        """Say in the report which list was given.

        >>> AllowList().describe()
        'decontamination allow list: none given'
        """
        if self.digest is None:
            return "decontamination allow list: none given"
        return f"decontamination allow list: {len(self.items)} items, {len(self.texts)} texts, digest {self.digest}"


def read_allow_list(path: str | None) -> AllowList:
    """Read a TOML file of `items` and `texts`, both lists of strings.

    Raises:
        InputError: it cannot be read, is no TOML, or has other keys.
    """
    if path is None:
        return AllowList()
    try:
        content = Path(path).read_bytes()
        table = tomllib.loads(content.decode())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: the allow list cannot be read ({error}); wanted TOML with items and texts"
        ) from error
    unknown = table.keys() - _ALLOWED_KEYS
    if unknown or not all(isinstance(v, list) and all(isinstance(x, str) for x in v) for v in table.values()):
        came = f"unknown keys {', '.join(sorted(unknown))}" if unknown else "a value that is no list of strings"
        raise InputError(f"{path}: the allow list has {came}; wanted items and texts, lists of strings")
    digest = xxhash.xxh3_128_hexdigest(content)
    return AllowList(frozenset(table.get("items", ())), tuple(table.get("texts", ())), digest)


class ContaminationIndex:
    """What is looked for, prepared: a sorted table of gram hashes, and an automaton of the texts' first signs."""

    def __init__(self, texts: Sequence[BenchmarkText], allowed: AllowList | None = None) -> None:
        """Prepare the search.

        Raises:
            InputError: the allow list names an item that a given benchmark does not have.
        """
        allowed = allowed or AllowList()
        _check_items(texts, allowed)
        self._texts = [text for text in texts if f"{text.benchmark}/{text.item}" not in allowed.items]
        self._grams, self._owners = _collect_grams(self._texts, allowed)
        self._is_possible = np.zeros(1 << 22, np.bool_)
        self._is_possible[self._grams >> _FILTER_SHIFT] = True
        self._wholes, self._starts = _collect_wholes(self._texts, allowed)
        guarded = {self._name(owner) for owner in self._owners}
        guarded |= {self._name(owner) for wholes in self._wholes for _, owner in wholes}
        # Items none of whose texts is evidence, as `benchmark/item`.
        self.unguarded = sorted("/".join(x) for x in {self._name(n) for n in range(len(self._texts))} - guarded)

    def _name(self, owner: int) -> tuple[str, str]:
        return self._texts[owner].benchmark, self._texts[owner].item

    def find(self, text: str, tokens: Tokens | None = None) -> list[Contamination]:
        """Find the items that stand in a text, by name, then by rule; `tokens` are the text's, if they are known.

        >>> from codegemma.corpus.benchmarks import Part
        >>> item = BenchmarkText("B", "1", Part.SOLUTION, "total = first + second * third")
        >>> ContaminationIndex([item]).find("import os" + chr(10) + "total=first+second*third")
        [Contamination(benchmark='B', item='1', rule=<Rule.WHOLE_TEXT: 'whole_text'>, line=2)]
        """
        tokens = hash_tokens(encode_text(text)) if tokens is None else tokens
        found: dict[tuple[str, str, Rule], int] = {}
        for rule, lines in (
            (Rule.TEN_WORDS, self._find_grams(text, tokens)),
            (Rule.WHOLE_TEXT, self._find_wholes(text)),
        ):
            for owner, line in lines.items():
                key = (*self._name(owner), rule)
                found[key] = min(line, found.get(key, line))
        return sorted(Contamination(*key, line) for key, line in found.items())

    def _find_grams(self, text: str, tokens: Tokens) -> dict[int, int]:
        """Map the texts that share a gram to the first line of the first."""
        words = np.flatnonzero(tokens.is_word)
        if len(words) < GRAM_WORDS:
            return {}
        grams = hash_runs(tokens.hashes[words], GRAM_WORDS)
        places = np.flatnonzero(self._is_possible[grams >> _FILTER_SHIFT])
        grams = grams[places]
        starts = np.searchsorted(self._grams, grams)
        counts = np.searchsorted(self._grams, grams, "right") - starts
        if not counts.any():
            return {}
        # The positions of all runs start..start+count, one run after another.
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        owners, firsts = np.unique(self._owners[np.repeat(starts, counts) + offsets], return_index=True)
        first_places = np.repeat(places, counts)[firsts]
        line_ends = np.flatnonzero(np.frombuffer(encode_text(text), np.uint8) == ord("\n"))
        lines = np.searchsorted(line_ends, tokens.starts[words[first_places]]) + 1
        return dict(zip(owners.tolist(), lines.tolist(), strict=True))

    def _find_wholes(self, text: str) -> dict[int, int]:
        """Map the texts that stand in this one whole to the line in which they begin first."""
        if not self._wholes:
            return {}
        squeezed = _squeeze(text)
        starts: dict[int, int] = {}
        for number, start, _ in self._starts.find_matches_as_indexes(squeezed, overlapping=True):
            for whole, owner in self._wholes[number]:
                if owner not in starts and squeezed.startswith(whole, start):
                    starts[owner] = start
        if not starts:
            return {}
        line_ends = list(itertools.accumulate(len(_squeeze(line)) for line in text.split("\n")))
        return {owner: bisect.bisect_right(line_ends, start) + 1 for owner, start in starts.items()}


@functools.lru_cache(maxsize=1)
def load_index(paths: tuple[str, ...], allow_list: str | None, digests: tuple[str | None, ...]) -> ContaminationIndex:  # noqa: ARG001
    """Read what a worker needs, once for all its files: an index of millions of grams does not travel well.

    `digests` tell what the files hold: files that were changed are another index.

    Raises:
        InputError: what `read_benchmarks` and `read_allow_list` refuse.
    """
    return ContaminationIndex(read_benchmarks(paths).texts, read_allow_list(allow_list))


def describe_contaminations(found: Sequence[Contamination]) -> str:
    """Tell what matched what, in the order of `find`, for the record of a dropped file.

    >>> describe_contaminations([Contamination("mbpp", "7", Rule.TEN_WORDS, 12)])
    'mbpp/7 by ten_words in line 12'
    """
    return "; ".join(f"{x.benchmark}/{x.item} by {x.rule} in line {x.line}" for x in found)


def _check_items(texts: Sequence[BenchmarkText], allowed: AllowList) -> None:
    known = {f"{text.benchmark}/{text.item}" for text in texts}
    benchmarks = {text.benchmark for text in texts}
    for item in sorted(allowed.items - known):
        if item.partition("/")[0] in benchmarks:
            raise InputError(f"the allow list names {item}, which is no item of that benchmark; correct or remove it")


def _collect_grams(
    texts: Sequence[BenchmarkText], allowed: AllowList
) -> tuple[UInt64[np.ndarray, " grams"], Int64[np.ndarray, " grams"]]:
    """Collect the telling grams of all texts, sorted, each with the number of its text."""
    grams = [_hash_telling_grams(_IMPORTS.sub("", text.text)) for text in texts]
    hashes = np.concatenate([*grams, np.empty(0, np.uint64)])
    owners = np.repeat(np.arange(len(texts)), [len(found) for found in grams])
    items = Counter(
        (gram, benchmark)
        for gram, benchmark, _ in {
            (gram, texts[owner].benchmark, texts[owner].item)
            for gram, owner in zip(hashes.tolist(), owners.tolist(), strict=True)
        }
    )
    common = [gram for (gram, _), count in items.items() if count > MAX_OWNERS]
    unwanted = np.concatenate([np.array(common, np.uint64), *map(_hash_telling_grams, allowed.texts)])
    is_wanted = ~np.isin(hashes, unwanted)
    order = np.argsort(hashes[is_wanted], kind="stable")
    return hashes[is_wanted][order], owners[is_wanted][order]


def _hash_telling_grams(text: str) -> UInt64[np.ndarray, " grams"]:
    content = encode_text(text)
    tokens = hash_tokens(content)
    words = tokens.hashes[tokens.is_word]
    if len(words) < GRAM_WORDS:
        return np.empty(0, np.uint64)
    starts = tokens.starts[tokens.is_word]
    signs = np.frombuffer(content + b" ", np.uint8)
    # Two letters or more: neither a number nor a lone letter. What follows a word's first byte tells its length.
    is_digit = (signs[starts] >= ord("0")) & (signs[starts] <= ord("9"))
    is_long = np.array(
        [signs[s + 1] >= 0x80 or chr(signs[s + 1]).isalnum() or signs[s + 1] == ord("_") for s in starts]
    )
    told = np.where(is_long & ~is_digit, words, np.uint64(0))
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(told, GRAM_WORDS), axis=1)
    is_another: Bool[np.ndarray, "grams gaps"] = windows[:, 1:] != windows[:, :-1]
    distinct = is_another.sum(axis=1) + (windows[:, 0] != 0)
    return np.unique(hash_runs(words, GRAM_WORDS)[distinct >= MIN_DISTINCT_WORDS])


def _collect_wholes(
    texts: Sequence[BenchmarkText], allowed: AllowList
) -> tuple[list[list[tuple[bytes, int]]], ahocorasick_rs.BytesAhoCorasick]:
    """Group the texts by their first signs, which alone are in the automaton: it stays small with long texts."""
    permitted = [_squeeze(text) for text in allowed.texts]
    wholes: dict[bytes, list[tuple[bytes, int]]] = defaultdict(list)
    for owner, text in enumerate(texts):
        whole = _squeeze(text.text)
        if len(whole) < MIN_SIGNS or any(whole in other for other in permitted):
            continue
        wholes[whole[:MIN_SIGNS]].append((whole, owner))
    return list(wholes.values()), ahocorasick_rs.BytesAhoCorasick(list(wholes))


def _squeeze(text: str) -> bytes:
    return encode_text("".join(text.split()))
