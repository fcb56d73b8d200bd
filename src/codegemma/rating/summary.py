"""What ratings say together: by question and system, with intervals, and how far the raters agree.

**In**: a campaign's questions and ratings.
**Out**: `Summary`; a later rating of the same person and item takes the place of the earlier.
**Not**: which system is better in general: the items are those of the campaign.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from codegemma.errors import InputError
from codegemma.evals.statistics import Interval, bootstrap_mean, bootstrap_share
from codegemma.rating.agreement import compute_alpha
from codegemma.rating.campaign import Campaign, Question
from codegemma.rating.ratings import Rating
from codegemma.recipe import from_plain

SUMMARY_FILE = "ratings.json"


@dataclass(frozen=True, slots=True)
class QuestionSummary:
    """One question. `counts` are ratings by label, in the order of the systems.

    Of one system, `mean` is the mean number of the label, from 0. Of two, `first` and `second` are the shares of
    ratings on either one's side. Intervals are by bootstrap over items. `alpha` is Krippendorff's, `None` where nobody
    overlaps.
    """

    question_id: str
    text: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    alpha: float | None
    mean: Interval | None = None
    first: Interval | None = None
    second: Interval | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """A campaign's outcome."""

    title: str
    systems: tuple[str, ...]
    raters: int
    items: int
    items_rated_twice: int
    questions: tuple[QuestionSummary, ...]


def summarize(campaign: Campaign, ratings: Sequence[Rating]) -> Summary:
    """Summarize the ratings of a campaign's items."""
    known = {item.item_id for item in campaign.items}
    newest = {(r.rater, r.item): r for r in ratings if r.item in known}
    by_item: dict[str, list[Rating]] = {}
    for rating in newest.values():
        by_item.setdefault(rating.item, []).append(rating)
    twice = sum(len(given) > 1 for given in by_item.values())
    raters = len({rater for rater, _ in newest})
    questions = tuple(_summarize(campaign, question, by_item) for question in campaign.questions)
    return Summary(campaign.title, campaign.systems, raters, len(by_item), twice, questions)


def _summarize(campaign: Campaign, question: Question, by_item: dict[str, list[Rating]]) -> QuestionSummary:
    pairs = [
        (item, r.values[question.question_id])
        for item, given in by_item.items()
        for r in given
        if question.question_id in r.values
    ]
    values, items = [value for _, value in pairs], [item for item, _ in pairs]
    labels = len(question.labels)
    counts = tuple(values.count(label) for label in range(labels))
    by = [[v for i, v in pairs if i == item] for item in by_item]
    alpha = compute_alpha(by, labels, question.scale)
    base = (question.question_id, question.text, question.labels, counts, alpha)
    if not values:
        return QuestionSummary(*base)
    if not campaign.is_side_by_side:
        return QuestionSummary(*base, mean=bootstrap_mean(values, items, seed=campaign.seed))
    middle = (labels - 1) / 2
    first = bootstrap_share([value < middle for value in values], items, seed=campaign.seed)
    second = bootstrap_share([value > middle for value in values], items, seed=campaign.seed)
    return QuestionSummary(*base, first=first, second=second)


def read_summary(folder: Path) -> Summary:
    """Read the summary that `codegemma rate --summary` left beside ratings.

    Raises:
        InputError: there is none.
    """
    file = folder / SUMMARY_FILE
    try:
        summary: Summary = from_plain(Summary, json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{file} holds no summary ({error}); `codegemma rate --summary` writes it") from error
    return summary


def spell_summary(summary: Summary) -> Iterator[str]:
    """Spell a summary in lines."""
    compared = " against ".join(summary.systems)
    yield f"{summary.title}: {compared}"
    if not summary.items:
        yield "no human ratings"
        return
    yield (
        f"{summary.raters} raters, {summary.items:,} items, {summary.items_rated_twice:,} of them rated by two or more"
    )
    for q in summary.questions:
        told = ", ".join(f"{label} {count}" for label, count in zip(q.labels, q.counts, strict=True))
        yield f"{q.question_id}: {told}"
        if q.mean is not None:
            yield f"  mean {_spell(q.mean, 1)} of 0 to {len(q.labels) - 1}"
        for name, share in zip(summary.systems, (q.first, q.second), strict=False):
            if share is not None:
                yield f"  {name} preferred: {_spell(share, 100)} %"
        alpha = "none: too few ratings overlap, or all are equal" if q.alpha is None else f"{q.alpha:.2f}"
        yield f"  agreement (Krippendorff's alpha): {alpha}"


def _spell(interval: Interval, scale: int) -> str:
    spread = ""
    if interval.low is not None and interval.high is not None:
        spread = f" ({interval.low * scale:.2f} to {interval.high * scale:.2f})"
    return f"{interval.mean * scale:.2f}{spread}"
