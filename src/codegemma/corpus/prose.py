"""Measures documents as prose: words, lines, punctuation, repetition, boilerplate.

**In**: a text, and the thresholds of `quality_rules.toml` for what it is.
**Out**: `PROSE_RULES`, by reason; each tells the measured value of what a text breaks, as the rules of `quality.py` do.
**Not**: the language (`english.py`), or truth and taste.

The rules are those of Gopher (Rae et al. 2112.11446, table A1), C4 (Raffel et al. 1910.10683, section 2.2) and FineWeb
(Penedo et al. 2406.17557, section 3.5). Runs of words are compared by the hashes of `tokens.py`, in one pass.
"""

import functools
from collections.abc import Callable, Iterator

import numpy as np
import re2
from jaxtyping import UInt64

from codegemma.corpus.quality_rules import Thresholds
from codegemma.corpus.tokens import HASH_STEP, encode_text, hash_tokens

# Gopher's eight; any text of some sentences has two of them.
ENGLISH_STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
# C4's phrases of pages that show no text, and what models say in place of an answer.
BOILERPLATE = re2.compile(
    rb"(?i)lorem ipsum|terms of use|privacy policy|cookie policy|uses? cookies|use of cookies|enable javascript"
    rb"|all rights reserved|as an ai (?:language )?model|i(?:'m| am) sorry, but i can(?:'t|not)|i can(?:'t|not) fulfil"
)
_ENDINGS = (".", "!", "?", ":", ";", '"', "'", "”", "’", ")", "…", "。", "！", "？", "$", "|", "```")
_ELLIPSES = ("...", "…")
_BULLETS = ("- ", "* ", "+ ", "• ", "· ", "– ", "‣ ", "▪ ")
# FineWeb's border of a line that may be a title or a button.
SHORT_LINE_CHARS = 30
# The shortest runs of words of the two rules on repetition; a threshold for each length from there on.
COMMON_RUN_WORDS, REPEATED_RUN_WORDS = 2, 5


class Prose:
    """What the rules measure of one text, each counted when it is first asked for."""

    def __init__(self, text: str) -> None:
        self.text = text

    @functools.cached_property
    def words(self) -> list[str]:
        """What white space divides."""
        return self.text.split()

    @functools.cached_property
    def lines(self) -> list[str]:
        """Lines that are not blank, without the white space around them."""
        return [line for raw in self.text.splitlines() if (line := raw.strip())]

    @functools.cached_property
    def paragraphs(self) -> list[str]:
        """What blank lines divide: where lines are wrapped, their ends say nothing."""
        return [part for raw in self.text.replace("\r\n", "\n").split("\n\n") if (part := raw.strip())]

    @functools.cached_property
    def word_hashes(self) -> UInt64[np.ndarray, " words"]:
        """The hashes of words, as runs are made of them; signs do not count."""
        tokens = hash_tokens(encode_text(self.text))
        words: UInt64[np.ndarray, " words"] = tokens.hashes[tokens.is_word]
        return words

    def share_lines(self, is_such: Callable[[str], bool]) -> float:
        """Tell which share of the lines is such."""
        return sum(map(is_such, self.lines)) / max(len(self.lines), 1)

    def roll_runs(self, longest: int) -> Iterator[tuple[int, UInt64[np.ndarray, " runs"]]]:
        """Give the hashes of the runs of 2, of 3 words and so on, each length from the one before, while two fit."""
        runs = self.word_hashes
        for run_words in range(2, min(longest, len(self.word_hashes) // 2) + 1):
            runs = runs[:-1] * np.uint64(HASH_STEP) + self.word_hashes[run_words - 1 :]
            yield run_words, runs


def share_common_run(runs: UInt64[np.ndarray, " runs"], run_words: int) -> float:
    """Tell which share of a text's words stands in the most frequent of its runs of so many words.

    >>> share_common_run(np.array([7, 8, 7], np.uint64), 2)
    1.0
    """
    most = int(np.unique(runs, return_counts=True)[1].max())
    return min(most * run_words / (len(runs) + run_words - 1), 1.0) if most > 1 else 0.0


def share_repeated_runs(runs: UInt64[np.ndarray, " runs"], run_words: int) -> float:
    """Tell which share of a text's words stands in runs of so many words that were there before.

    >>> share_repeated_runs(np.array([7, 8, 7], np.uint64), 2)
    0.5
    """
    is_repeated = np.ones(len(runs), np.bool_)
    is_repeated[np.unique(runs, return_index=True)[1]] = False
    words = len(runs) + run_words - 1
    covered = np.zeros(words + 1, np.int64)
    covered[:-run_words] += is_repeated
    covered[run_words:] -= is_repeated
    return float(np.count_nonzero(np.cumsum(covered)[:-1])) / words


Rule = Callable[[Prose, Thresholds], str | None]
# The one rule that only English can keep.
NO_STOP_WORDS = "no_stop_words"


def _check_words(prose: Prose, thresholds: Thresholds) -> str | None:
    count = len(prose.words)
    return f"{count} words, at least {thresholds.min_words}" if count < thresholds.min_words else None


def _check_word_length(prose: Prose, thresholds: Thresholds) -> str | None:
    mean = sum(map(len, prose.words)) / max(len(prose.words), 1)
    if thresholds.min_word_chars <= mean <= thresholds.max_word_chars:
        return None
    return f"{mean:.4g} characters in a mean word, {thresholds.min_word_chars:g} to {thresholds.max_word_chars:g}"


def _check_alphabetic_words(prose: Prose, thresholds: Thresholds) -> str | None:
    if not thresholds.min_alphabetic_word_share:
        return None
    share = sum(any(map(str.isalpha, word)) for word in prose.words) / max(len(prose.words), 1)
    return _below(share, thresholds.min_alphabetic_word_share, "words with a letter")


def _check_stop_words(prose: Prose, thresholds: Thresholds) -> str | None:
    if not thresholds.min_stop_words:
        return None
    count = len(ENGLISH_STOP_WORDS & {word.lower() for word in prose.words})
    least = thresholds.min_stop_words
    return f"{count} of the {len(ENGLISH_STOP_WORDS)} stop words, at least {least}" if count < least else None


def _check_symbols(prose: Prose, thresholds: Thresholds) -> str | None:
    count = prose.text.count("#") + sum(map(prose.text.count, _ELLIPSES))
    ratio = count / max(len(prose.words), 1)
    most = thresholds.max_symbols_per_word
    return f"{ratio:.4g} number signs and ellipses a word, at most {most:g}" if ratio > most else None


def _check_bullets(prose: Prose, thresholds: Thresholds) -> str | None:
    share = prose.share_lines(lambda line: line.startswith(_BULLETS))
    return _above(share, thresholds.max_bullet_line_share, "lines that are items of a list")


def _check_cut_lines(prose: Prose, thresholds: Thresholds) -> str | None:
    share = prose.share_lines(lambda line: line.endswith(_ELLIPSES))
    return _above(share, thresholds.max_ellipsis_line_share, "lines that end in an ellipsis")


def _check_punctuation(prose: Prose, thresholds: Thresholds) -> str | None:
    least = thresholds.min_punctuated_line_share
    share = prose.share_lines(lambda line: line.endswith(_ENDINGS))
    if share >= least:
        return None
    paragraphs = sum(part.endswith(_ENDINGS) for part in prose.paragraphs) / max(len(prose.paragraphs), 1)
    return _below(max(share, paragraphs), least, "lines that end in punctuation")


def _check_short_lines(prose: Prose, thresholds: Thresholds) -> str | None:
    share = prose.share_lines(lambda line: len(line) < SHORT_LINE_CHARS)
    return _above(share, thresholds.max_short_line_share, f"lines below {SHORT_LINE_CHARS} characters")


def _check_boilerplate(prose: Prose, thresholds: Thresholds) -> str | None:
    if thresholds.max_boilerplate_line_share >= 1 or not BOILERPLATE.search(encode_text(prose.text)):
        return None
    share = prose.share_lines(lambda line: BOILERPLATE.search(encode_text(line)) is not None)
    return _above(share, thresholds.max_boilerplate_line_share, "lines of boilerplate")


def _check_repeated_lines(prose: Prose, thresholds: Thresholds) -> str | None:
    if thresholds.max_repeated_line_share >= 1:
        return None
    chars = sum(map(len, prose.lines))
    repeated = chars - sum(map(len, set(prose.lines)))
    return _above(repeated / max(chars, 1), thresholds.max_repeated_line_share, "characters in repeated lines")


def _check_repeated_words(prose: Prose, thresholds: Thresholds) -> str | None:
    for detail in _list_repetitions(prose, thresholds):
        if detail is not None:
            return detail
    return None


def _list_repetitions(prose: Prose, thresholds: Thresholds) -> Iterator[str | None]:
    common = dict(enumerate(thresholds.max_common_run_shares, start=COMMON_RUN_WORDS))
    repeated = dict(enumerate(thresholds.max_repeated_run_shares, start=REPEATED_RUN_WORDS))
    for run_words, runs in prose.roll_runs(max([0, *common, *repeated])):
        if run_words in common:
            share = share_common_run(runs, run_words)
            yield _above(share, common[run_words], f"words in the most common run of {run_words}")
        if run_words in repeated:
            share = share_repeated_runs(runs, run_words)
            yield _above(share, repeated[run_words], f"words in repeated runs of {run_words}")
            # What stands in longer repeated runs stands in shorter ones too.
            if share <= min(thresholds.max_repeated_run_shares) and run_words >= max([0, *common]):
                return


def _above(share: float, most: float, what: str) -> str | None:
    return f"{share:.4g} share of {what}, at most {most:g}" if share > most else None


def _below(share: float, least: float, what: str) -> str | None:
    return f"{share:.4g} share of {what}, at least {least:g}" if share < least else None


# Reason -> rule, in the order in which they are asked: the most telling first.
PROSE_RULES: dict[str, Rule] = {
    "boilerplate": _check_boilerplate,
    "few_words": _check_words,
    "word_length": _check_word_length,
    "few_alphabetic_words": _check_alphabetic_words,
    "symbols": _check_symbols,
    "bullet_list": _check_bullets,
    "cut_lines": _check_cut_lines,
    "short_lines": _check_short_lines,
    "unpunctuated": _check_punctuation,
    NO_STOP_WORDS: _check_stop_words,
    "repeated_lines": _check_repeated_lines,
    "repeated_words": _check_repeated_words,
}
