"""Measures what the feed does to packs: how long middles are, where suffixes begin, how full rows are.

**In**: the windows of a loader.
**Out**: `FeedSurvey`, for reports: what was really cut, not what was chosen.
**Not**: a part of training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from codegemma.feed.rows import WindowSpeller
from codegemma.feed.windows import Window
from codegemma.records import InfillMode

# Windows that are looked at: enough for shares within a percent.
_SURVEYED_WINDOWS = 2000


@dataclass(frozen=True, slots=True)
class FeedSurvey:
    """One epoch's holes. Shares are of pieces (`infill_share`) or of holes (the others).

    `full_share` is the share of holes with prefix, middle and suffix all present: the effective infill of Bavarian et
    al. `natural_share` counts the suffixes that start at a natural cut.
    """

    windows: int
    pieces: int
    epoch_tokens: int
    infill_share: float
    spm_share: float
    full_share: float
    natural_share: float
    middle_chars: tuple[int, ...]


def survey_feed(windows: Sequence[Window], speller: WindowSpeller) -> FeedSurvey:
    """Spell evenly spread windows as the first epoch does and count."""
    step = max(len(windows) // _SURVEYED_WINDOWS, 1)
    spelled = [speller.spell(window, epoch=0) for window in windows[::step]]
    outcomes = [outcome for one in spelled for outcome in one.outcomes]
    holes = [(o, o.hole) for o in outcomes if o.hole is not None]
    full = sum(o.piece.start < h.start < h.end < o.piece.end for o, h in holes)
    count = max(len(holes), 1)
    return FeedSurvey(
        windows=len(windows),
        pieces=sum(len(window) for window in windows),
        epoch_tokens=round(sum(len(one.ids) for one in spelled) * len(windows) / len(spelled)),
        infill_share=len(holes) / len(outcomes),
        spm_share=sum(o.mode is not InfillMode.PSM for o, _ in holes) / count,
        full_share=full / count,
        natural_share=sum(h.is_natural for _, h in holes) / count,
        middle_chars=tuple(h.end - h.start for _, h in holes),
    )
