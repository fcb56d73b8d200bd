"""Says in a few lines what an adaptation brought: a bar for each system, and how sure the gain is.

**In**: measurements of every system, gains of the adapted one over each rival.
**Out**: lines of `rich` text, for the mode in which the adapted model ends most lines right.
**Not**: the table; other kinds, modes and metrics stand there.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from codegemma.evals.measure import Measurement

_BAR_WIDTH = 40
_EIGHTHS = " ▏▎▍▌▋▊▉"
_METRIC = "exact_match"
_NAME_WIDTH = 18


def make_headline(measured: "Sequence[Measurement]", gains: "Sequence[Measurement]", strong: str) -> list[Text]:
    """Draw exact match of the rest of a line, or of the first kind measured; nothing where it was not measured."""
    from codegemma.evals.heldout import HoleKind

    exact = [m for m in measured if m.metric == _METRIC]
    ours = [m for m in exact if m.system == strong]
    if not ours:
        return []
    kinds = [m.kind for m in ours]
    kind = HoleKind.REST_OF_LINE if HoleKind.REST_OF_LINE in kinds else kinds[0]
    best = max((m for m in ours if m.kind == kind), key=lambda m: m.interval.mean)
    shown = [m for m in exact if m.kind == kind and m.mode in {best.mode, None}]
    most = max(m.interval.mean for m in shown) or 1.0
    holes, files = best.interval.items, best.interval.clusters
    mode = f" ({best.mode.upper()})" if best.mode else ""
    what = f"{kind.replace('_', ' ')}, right to the last character"
    lines = [Text(f"\n{what}: {holes:,} holes in {files:,} files that no run has seen{mode}", "bold")]
    for m in sorted(shown, key=lambda m: m.system != strong):
        style = "green" if m.system == strong else "dim"
        bar = draw_bar(m.interval.mean / most)
        lines.append(Text.assemble(f"  {m.system:{_NAME_WIDTH}}", (bar, style), f" {m.interval.mean:.1%}"))
    lines += [
        _judge(gain) for gain in gains if (gain.kind, gain.mode, gain.metric) == (kind, best.mode, _METRIC)
    ]  # a rival without modes has met this one too
    return lines


def draw_bar(share: float) -> str:
    """Draw a share of the whole width, to an eighth of a character."""
    full, rest = divmod(round(max(0.0, min(share, 1.0)) * _BAR_WIDTH * 8), 8)
    return ("█" * full + _EIGHTHS[rest]).rstrip()


def _judge(gain: "Measurement") -> Text:
    low, high, mean = gain.interval.low, gain.interval.high, gain.interval.mean
    told = f"  {mean * 100:+.1f} points, {gain.system}"
    if low is None or high is None:
        return Text(f"{told}: too few files for an interval", "dim")
    verdict, style = (
        ("better", "green") if low > 0 else ("worse", "red") if high < 0 else ("not shown either way", "dim")
    )
    return Text.assemble(f"{told} (95 %: {low * 100:+.1f} to {high * 100:+.1f}): ", (verdict, style))
