"""Puts the two baselines before the same holes: what counting and what copying can do with the training files alone.

**In**: training packs and holes.
**Out**: one `HoleResult` per hole and baseline, without a mode.
**Not**: the baselines themselves (`ngram.py`, `retrieval.py`).
"""

import dataclasses
from collections.abc import Iterable, Sequence, Set

import xxhash

from codegemma.evals.choices import EvalChoices
from codegemma.evals.heldout import Hole
from codegemma.evals.ngram import choose_order, train_ngram
from codegemma.evals.retrieval import index_lines
from codegemma.evals.scoring import HoleResult, add_text, start_result
from codegemma.records import Pack

NGRAM = "n-gram"
RETRIEVAL = "nearest line"


def gather_texts(packs: Iterable[Pack], choices: EvalChoices) -> tuple[list[str], int]:
    """Collect training files up to the cap, in an order that no folder dominates; also count those left out."""
    texts = {(pack.repo, file.path): file.text for pack in packs for file in pack.files if file.text}
    order = sorted(texts, key=lambda k: (xxhash.xxh3_64_intdigest("\0".join(k).encode(), choices.seed), k))
    kept: list[str] = []
    room = choices.max_baseline_bytes
    for key in order:
        room -= len(texts[key].encode())
        if room < 0:
            break
        kept.append(texts[key])
    return kept, len(order) - len(kept)


def run_ngram(texts: Sequence[str], holes: Sequence[Hole]) -> tuple[list[HoleResult], int]:
    """Measure the bits of each middle given its prefix; also say which order was chosen."""
    order = choose_order(texts)
    bits = train_ngram(texts, order).bits_of_middles([h.prefix for h in holes], [h.middle for h in holes])
    results = [dataclasses.replace(start_result(h, NGRAM), bits=float(b)) for h, b in zip(holes, bits, strict=True)]
    return results, order


def run_retrieval(texts: Sequence[str], holes: Sequence[Hole], generated_ids: Set[str]) -> list[HoleResult]:
    """Answer each hole from the training files; edit similarity only where the model writes too: like with like."""
    answers = index_lines(texts).retrieve([hole.prefix for hole in holes])
    results = []
    for hole, answer in zip(holes, answers, strict=True):
        is_match = answer == hole.middle
        result = dataclasses.replace(start_result(hole, RETRIEVAL), exact_match=is_match, line_match=is_match)
        results.append(add_text(result, hole.middle, answer or "") if hole.hole_id in generated_ids else result)
    return results
