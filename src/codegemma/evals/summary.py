"""One line for each suite: its headline, or why there is none.

**In**: results of evaluations.
**Out**: `Headline`s in the order of the suites, for a terminal, a page or a card.
**Not**: all figures; and no mean over suites, which measure different things.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from codegemma.evals.measure import Measurement
from codegemma.evals.results import SuiteResults

# Where a suite tells a figure over all its kinds, that is the headline.
_OVER_ALL = "all"


@dataclass(frozen=True, slots=True)
class Headline:
    """A suite's first figure of a kind; or, with `measured` `None`, why a kind or the whole suite has none."""

    suite: str
    kind: str
    measured: Measurement | None
    reason: str = ""

    @property
    def about(self) -> str:
        """Name the kind, the order of the parts and the figure."""
        if self.measured is None:
            return self.kind.replace("_", " ")
        m = self.measured
        is_told = m.kind == _OVER_ALL or m.kind.replace("_", "-") == self.suite
        parts = ("" if is_told else m.kind, m.mode.upper() if m.mode else "", name_figure(m.metric))
        return " ".join(part.replace("_", " ") for part in parts if part)

    def spell(self) -> str:
        """Spell the figure with its interval: shares in %.

        >>> from codegemma.evals.statistics import count_share
        >>> Headline("mbpp", "", Measurement("model", "mbpp", None, "pass_at_1", "share", count_share(1, 2))).spell()
        '50.0 % (9.5 to 90.5)'
        """
        if self.measured is None:
            return "not run"
        interval, is_share = self.measured.interval, self.measured.unit == "share"
        scale, digits, unit = (100, 1, " %") if is_share else (1, 3, "")
        shown = f"{interval.mean * scale:.{digits}f}{unit}"
        if interval.low is None or interval.high is None:
            return shown
        return f"{shown} ({interval.low * scale:.{digits}f} to {interval.high * scale:.{digits}f})"


def name_figure(metric: str) -> str:
    """Name a figure for people.

    >>> name_figure("pass_at_10"), name_figure("exact_match")
    ('pass@10', 'exact match')
    """
    return metric.replace("pass_at_", "pass@").replace("_", " ")


def list_headlines(suites: Iterable[SuiteResults]) -> Iterator[Headline]:
    """List the first figure of each kind, or of all kinds together, and what was not run."""
    for suite in suites:
        firsts: dict[str, Measurement] = {}
        for m in suite.measurements:
            firsts.setdefault(m.kind, m)
        shown = [firsts[_OVER_ALL]] if _OVER_ALL in firsts else list(firsts.values())
        yield from (Headline(suite.suite, m.kind, m) for m in shown)
        yield from (Headline(suite.suite, kind, None, reason) for kind, reason in suite.not_run.items())
