"""The model card's table with what was measured beside what was published.

**In**: `Results` of one or several evaluations of a model; `published.toml`.
**Out**: `CardRow`s in the card's order, and the table as text.
**Not**: a figure for a row that was not run: it says so, and what would run it.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from codegemma.errors import InputError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.measure import Measurement
from codegemma.evals.results import Results
from codegemma.evals.samples import name_kind
from codegemma.evals.suites import SUITES
from codegemma.records import InfillMode

PROFILE = "codegemma-2024"
_USUAL_METRIC = "pass_at_1"
_PRINTED_DIGITS = 1


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A row of the card: the figures in % by released model, and the number of tasks that they are fractions of.

    `metric` is the figure of ours that stands beside them.
    """

    name: str
    suite: str
    kind: str
    tasks: int
    figures: Mapping[str, float]
    off_lattice: tuple[str, ...] = ()
    metric: str = _USUAL_METRIC


@dataclass(frozen=True, slots=True)
class CardRow:
    """A published row and our measurement; `not_run` is why there is none, where an evaluation said so."""

    published: PublishedRow
    measured: Measurement | None
    not_run: str = ""

    @property
    def is_whole(self) -> bool:
        """Tell whether all tasks of the benchmark were asked."""
        return self.measured is not None and self.measured.interval.items == self.published.tasks

    def describe(self) -> str:
        """Spell our figure with its interval, or why there is none."""
        if self.measured is None:
            return "not run" if self.published.suite in SUITES else "not run: no such suite yet"
        interval = self.measured.interval
        spread = "" if interval.low is None or interval.high is None else (
            f" ({100 * interval.low:.1f}-{100 * interval.high:.1f})"
        )  # fmt: skip
        part = "" if self.is_whole else f", on {interval.items:,} of {self.published.tasks:,} tasks"
        return f"{100 * interval.mean:.{_PRINTED_DIGITS}f}{spread}{part}"


def read_published() -> tuple[PublishedRow, ...]:
    """Read what the card prints."""
    plain = _read_file()
    return tuple(
        PublishedRow(
            row["name"],
            row["suite"],
            row["kind"],
            row["tasks"],
            _name_figures(row["figures"], plain["columns"]),
            tuple(row.get("off_lattice", ())),
            row.get("metric", _USUAL_METRIC),
        )
        for row in plain["rows"]
    )


def read_columns() -> list[str]:
    """Read which released models the card has; not every row has a figure of each."""
    return list(_read_file()["columns"])


def _read_file() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("published.toml").read_text("utf-8"))


def _name_figures(figures: list[float] | dict[str, float], columns: Sequence[str]) -> dict[str, float]:
    return figures if isinstance(figures, dict) else dict(zip(columns, figures, strict=True))


def is_fraction(percent: float, tasks: int) -> bool:
    """Tell whether a printed percentage is that of some number of tasks out of all.

    >>> is_fraction(31.1, 164), is_fraction(31.2, 164)
    (True, False)
    """
    near = round(percent * tasks / 100)
    return any(
        round(100 * k / tasks, _PRINTED_DIGITS) == percent for k in (near - 1, near, near + 1) if 0 <= k <= tasks
    )


def fill_card(results: Sequence[Results], mode: InfillMode = InfillMode.PSM) -> list[CardRow]:
    """Put the headline measurement of each suite in its row; of infilling that of one order of the parts.

    Raises:
        InputError: the results are of different models.
    """
    models = sorted({result.model for result in results})
    if len(models) > 1:
        raise InputError(f"results of different models in one card: {', '.join(models)}; make a card of each")
    found: dict[tuple[str, str, str], Measurement] = {}
    reasons: dict[tuple[str, str], str] = {}
    for suite in (suite for result in results for suite in result.suites):
        reasons |= {(suite.suite, kind): reason for kind, reason in suite.not_run.items()}
        for m in suite.measurements:
            # The first policy of a suite is its headline.
            if m.mode in (None, mode):
                found.setdefault((suite.suite, m.kind, m.metric), m)
    rows = []
    for row in read_published():
        names = [(row.suite, kind) for kind in (row.kind, name_kind(row.kind, mode), "")]
        reason = next((reasons[name] for name in names if name in reasons), "")
        measured = found.get((row.suite, row.kind, row.metric))
        rows.append(CardRow(row, measured, "" if measured else reason))
    return rows


def choose_profile(name: str, choices: EvalChoices, modes: Sequence[InfillMode]) -> tuple[InfillMode, ...]:
    """Take the order of the parts in which the card was measured, and refuse choices that are not the card's.

    Raises:
        InputError: an unknown profile, choices that contradict it, or a model that never learned that order.
    """
    check_profile_name(name)
    told = list(_tell_departures(choices))
    if choices.limit is not None:
        told.append(f"{choices.limit} tasks, where the card has all")
    if InfillMode.PSM not in modes:
        known = ", ".join(mode.upper() for mode in modes) or "none"
        told.append(f"a model that knows the orders {known}, where the card's are PSM")
    if told:
        raise InputError(f"{name} cannot be measured with {'; '.join(told)}; leave those options or the profile out")
    return (InfillMode.PSM,)


def check_profile_name(name: str) -> None:
    """Refuse an unknown profile.

    Raises:
        InputError: the message lists the known ones.
    """
    if name != PROFILE:
        raise InputError(f"unknown profile {name!r}; known: {PROFILE}")


def list_profile_suites() -> list[str]:
    """List the suites of the card's rows, in its order."""
    return [name for name in dict.fromkeys(row.suite for row in read_published()) if name in SUITES]


def _tell_departures(choices: EvalChoices) -> Iterator[str]:
    if choices.samples != 1 or choices.temperature != 0:
        yield f"{choices.samples} samples at temperature {choices.temperature:g}, where the card has one, greedy"
    if choices.max_new_tokens != 128:
        yield f"{choices.max_new_tokens} tokens for a middle, where the card has 128"


def check_profile(results: Sequence[Results], rows: Sequence[CardRow]) -> list[str]:
    """Tell where results depart from how the card was measured: one greedy sample of every task, 128 tokens, PSM.

    Every printed percentage of a whole row must be a fraction of its number of tasks.
    """
    known = list_profile_suites()
    asked = [
        suite.choices for result in results for suite in result.suites if suite.measurements and suite.suite in known
    ]
    told = [line for choices in asked for line in _tell_departures(choices)]
    for row in rows:
        if row.measured is None:
            told.append(f"{row.published.name}: {row.describe()}")
        elif not row.is_whole:
            told.append(
                f"{row.published.name}: only {row.measured.interval.items:,} of {row.published.tasks:,} tasks asked"
            )
        elif not is_fraction(round(100 * row.measured.interval.mean, _PRINTED_DIGITS), row.published.tasks):
            told.append(f"{row.published.name}: {100 * row.measured.interval.mean:.3f} % is no fraction of its tasks")
    return list(dict.fromkeys(told))


def spell_card(rows: Sequence[CardRow]) -> str:
    """Spell the table as Markdown, the measured column first; below it why suites were not run."""
    columns = read_columns()
    lines = [
        f"| Benchmark | tasks | measured | {' | '.join(columns)} |",
        f"|---|---|---|{'---|' * len(columns)}",
    ]
    for row in rows:
        found = [row.published.figures.get(name) for name in columns]
        figures = " | ".join("–" if figure is None else f"{figure:.1f}" for figure in found)
        lines.append(f"| {row.published.name} | {row.published.tasks:,} | {row.describe()} | {figures} |")
    reasons = [f"- {row.published.name}: not run: {row.not_run}" for row in rows if row.not_run]
    return "\n".join(lines + [""] * bool(reasons) + reasons) + "\n"
