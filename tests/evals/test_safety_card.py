"""The card says of safety what was measured, with intervals, and "not measured" of the rest."""

from collections.abc import Sequence
from pathlib import Path

from codegemma.evals.conduct.judges import RuleJudge
from codegemma.evals.conduct.prompts import read_own
from codegemma.evals.conduct.suite import judge_answers, measure_conduct
from codegemma.evals.insecure.suite import InsecureResult, measure_insecure
from codegemma.evals.measure import Measurement
from codegemma.evals.memorization import RecallResult, measure_recall
from codegemma.evals.offence.challenge import Kind
from codegemma.evals.offence.suite import OffenceResult, measure_offence
from codegemma.evals.results import Results, SuiteResults
from codegemma.evals.safety_card import write_limits, write_safety
from codegemma.evals.statistics import count_share
from codegemma.model_card import Evidence, write_card
from codegemma.rating.campaign import Campaign, Item, Question
from codegemma.rating.ratings import RatingStore, read_ratings
from codegemma.rating.summary import summarize
from codegemma.records import Split


def _make_results(suite: str, measured: Sequence[Measurement], notes: tuple[str, ...] = ()) -> Results:
    found = SuiteResults(suite, "rules", 1, tuple(measured), notes, f"holes-{suite}.jsonl")
    return Results("a model", (found,))


def _recall(side: Split, hits: int, of: int = 40) -> list[RecallResult]:
    return [
        RecallResult(f"{side}{n}", "r", "a.py", "python", "code", side, "inside", None, 0, n < hits, n < hits, "", ())
        for n in range(of)
    ]


def _measure_all() -> list[Results]:
    prompts = read_own()
    answers = ["I cannot help with this." if p.is_harmful else "Sure: x = 1" for p in prompts]
    conduct = measure_conduct(judge_answers(prompts, answers, RuleJudge()))
    insecure = [InsecureResult(f"t{n}", "c", "buffer-overflow", 120, 0, "", True, ("r",) * (n < 3)) for n in range(10)]
    offence = [OffenceResult("xor-letter", Kind.WEAK_CRYPTOGRAPHY, False, 12, 0, ())]
    bias = Measurement("model", "crows-pairs", None, "prefers_stereotype", "share", count_share(6, 10))
    recall = measure_recall([*_recall(Split.TRAIN, 30), *_recall(Split.HELDOUT, 2)])
    return [
        _make_results("content-safety", list(conduct)),
        _make_results("insecure", list(measure_insecure(insecure))),
        _make_results("cyber-offence", list(measure_offence(offence))),
        _make_results("crows-pairs", [bias]),
        _make_results("memorization", list(recall), ("personal data and secrets in 30 memorized passages: email 2",)),
    ]


def test_without_results_everything_is_not_measured() -> None:
    lines = list(write_safety([]))
    assert len(lines) == 5
    assert all(line.endswith("not measured.") for line in lines)
    assert list(write_limits([])) == []
    card = write_card(Evidence("m", 1, 4096))
    assert "- Human ratings: there are none." in card
    assert "- Memorization: not measured." in card


def test_measured_suites_have_figures_with_intervals() -> None:
    text = "\n".join(write_safety(_measure_all()))
    assert "| all | rules | 100.0 % (92.6 to 100.0) | 0.0 % (0.0 to 7.4) | 0.0 % (0.0 to 3.8) |" in text
    assert "| child safety | rules | 100.0 %" in text
    assert "Insecure code: 30.0 %" in text
    assert "Cyber-offence: 0.0 % (0.0 to 79.3) of 1 small" in text
    assert "| inside |  | training | 75.0 %" in text
    assert "| inside |  | held out (control) | 5.0 %" in text
    assert "email 2" in text
    assert "- CrowS-Pairs: prefers stereotype 60.0 % (31.3 to 83.2), 10 questions." in text
    assert "not measured" not in text


def test_limits_name_memory_beyond_prediction_and_weak_code() -> None:
    text = "\n".join(write_limits(_measure_all()))
    assert "writes out parts of its training files: 70.0 %" in text
    assert "30.0 %" in text
    equal = measure_recall([*_recall(Split.TRAIN, 2), *_recall(Split.HELDOUT, 2)])
    assert list(write_limits([_make_results("memorization", list(equal))])) == []


def test_peoples_ratings_stand_on_the_card(tmp_path: Path) -> None:
    question = Question("harm", "How harmful?", ("not", "very"))
    campaign = Campaign("Red team", "", (question,), ("a model",), (Item("i", "p", ("a",)),))
    store = RatingStore(tmp_path, campaign)
    for rater in ("anna", "ben"):
        store.add(rater, "i", {"harm": 0}, "", 1.0)
    summary = summarize(campaign, read_ratings(tmp_path / "ratings.jsonl"))
    card = write_card(Evidence("m", 1, 4096, ratings=summary))
    assert "2 raters, 1 items" in card
    assert "harm: not 2, very 0" in card
