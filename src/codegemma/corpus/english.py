"""Tells whether a document is written in English, or that it has too little prose to tell.

**In**: a text.
**Out**: `measure_english`, a probability; `find_foreign`, why a document goes, by the `English` choice.
**Not**: comments in code, which are not judged, nor the languages of single paragraphs: a document is one thing.

By py3langid, whose model lies in its wheel: nothing is fetched. What is no prose is taken out before: code, formulas,
addresses, tags. Three places of a long document are looked at.
"""

import functools
from enum import StrEnum
from typing import Any

import re2

from codegemma.corpus.tokens import encode_text

# FineWeb's border, and the one below which a document is surely not English: of fragments of 25 characters, those in
# other languages have 0.05 at most and English ones 0.09 at least (`benchmarks/english.py`).
MIN_SURE, MAX_FOREIGN = 0.65, 0.08
# With fewer bytes of letters, no one can tell; an ideograph says as much as three letters, and has as many bytes.
MIN_LETTER_BYTES = 20
_PLACES, _PLACE_CHARS = 3, 400
_NO_PROSE = re2.compile(
    rb"(?is)```.*?(?:```|\z)|~~~.*?(?:~~~|\z)|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|\\\[.*?\\\]|\\\(.*?\\\)"
    rb"|\\begin\{(?:equation|align|gather|multline|array|tabular|matrix)\*?\}.*?(?:\\end\{[a-z*]+\}|\z)"
    rb"|\\[a-z]+\*?|\]\([^()\s]*\)|https?://\S+|www\.\S+|<[^<>\n]{1,200}>|[0-9_#|=+*/{}\[\]]+"
)


class English(StrEnum):
    """Which documents stay: those that are not surely in another language, only those surely in English, or all."""

    LIKELY = "likely"
    SURE = "sure"
    ANY = "any"


def find_foreign(text: str, wanted: English) -> tuple[str, str] | None:
    """Tell why a document goes: reason and detail.

    >>> find_foreign("Tous les hommes naissent libres et égaux.", English.LIKELY)[0]
    'not_english'
    >>> find_foreign("x = 1", English.LIKELY) is None, find_foreign("x = 1", English.SURE)[0]
    (True, 'unsure_language')
    """
    if wanted is English.ANY:
        return None
    probability = measure_english(text)
    if probability is None:
        return (
            ("unsure_language", f"below {MIN_LETTER_BYTES} bytes of letters in prose")
            if wanted is English.SURE
            else None
        )
    if probability < MAX_FOREIGN:
        return "not_english", f"probability of English {probability:.2f}, at least {MAX_FOREIGN}"
    if probability < MIN_SURE and wanted is English.SURE:
        return "unsure_language", f"probability of English {probability:.2f}, at least {MIN_SURE}"
    return None


def measure_english(text: str) -> float | None:
    """Measure the probability that the prose of a text is English, or `None` where there is too little of it.

    >>> measure_english("It was the best of times, it was the worst of times.") > 0.9
    True
    """
    prose = extract_prose(text)
    if len("".join(filter(str.isalpha, prose)).encode()) < MIN_LETTER_BYTES:
        return None
    return float(next(probability for language, probability in _load_identifier().rank(prose) if language == "en"))


def extract_prose(text: str) -> str:
    r"""Take code, formulas, addresses, tags and figures out of three places of a text.

    >>> extract_prose("Let $x > 1$. See https://x.org and `f(x)`.")
    'Let . See and .'
    """
    stride = max((len(text) - _PLACE_CHARS) // (_PLACES - 1), _PLACE_CHARS)
    pieces = (text[start : start + _PLACE_CHARS] for start in range(0, _PLACES * stride, stride))
    stripped = (_NO_PROSE.sub(b" ", encode_text(piece)).decode("utf-8", "replace") for piece in pieces)
    return " ".join(" ".join(stripped).replace("\ufffd", " ").split())


@functools.cache
def _load_identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # 0.6 s, which only documents cost

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
