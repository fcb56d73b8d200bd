"""Which share of the tokens each source of a mixture gets, and whose turn it is.

**In**: shares as a recipe spells them, `code=0.8`; how many tokens each source has had.
**Out**: `MixtureChoices`, the `mixture` group of the feed's choices; `Source`s, and the next one's number.
**Not**: windows and rows (`loader.py`), or what kind a text is (`corpus/inputs.py`).

Turns are not drawn by chance: the source that is the furthest behind its share is next, counted in tokens, so that the
shares hold within a window at every moment, and not only in the long run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

from codegemma.records import SourceKind

# CodeGemma's two (report, section 2): the 2B models saw code alone, the 7B 80 % code and 20 % natural language, with
# mathematics in it. How much of the 20 % that is, and how much of the code is synthetic, is not published: within a
# source, kinds stand as the data have them.
PRESETS = MappingProxyType(
    {"code": ("code+synthetic=1",), "code_and_text": ("code+synthetic=0.8", "text+mathematics=0.2")}
)


@dataclass(frozen=True, slots=True)
class Source:
    """The windows of some kinds, mixed as the data have them, and their share of all tokens."""

    kinds: tuple[SourceKind, ...]
    share: float

    @property
    def name(self) -> str:
        """Spell the kinds as a recipe does."""
        return "+".join(self.kinds)


ALL_ALIKE = (Source(tuple(SourceKind), 1.0),)


@dataclass(frozen=True, slots=True)
class MixtureChoices:
    """What share of the tokens goes to which kinds.

    `shares` is a preset, `code` or `code_and_text`, or weights such as `code=0.7`, `synthetic=0.1`,
    `text+mathematics=0.2`; kinds that are not named are not read. None named reads everything as often as everything
    else. A run in which a source would be gone through more than `max_epochs` times does not begin; Muennighoff et al.
    (2305.16264) found up to 4 as good as new text and more than 16 worth little.
    """

    shares: tuple[str, ...] = ()
    max_epochs: float | None = None

    def __post_init__(self) -> None:
        """Refuse shares that cannot be."""
        object.__setattr__(self, "shares", tuple(self.shares))  # JSON has lists
        self.list_sources()
        if self.max_epochs is not None and not self.max_epochs > 0:
            raise ValueError(f"max_epochs is above 0, or none, got {self.max_epochs}")

    def list_sources(self) -> tuple[Source, ...]:
        """List the sources that get a share; the shares add up to 1.

        >>> MixtureChoices(("code_and_text",)).list_sources()[1].share
        0.2
        >>> [(source.name, source.share) for source in MixtureChoices(("code=3", "text=1")).list_sources()]
        [('code', 0.75), ('text', 0.25)]
        """
        if not self.shares:
            return ALL_ALIKE
        spelled = PRESETS.get(self.shares[0], self.shares) if len(self.shares) == 1 else self.shares
        sources = [_parse_source(text) for text in spelled]
        kinds = [kind for source in sources for kind in source.kinds]
        total = sum(source.share for source in sources)
        if len(set(kinds)) < len(kinds) or not 0 < total < float("inf"):
            raise ValueError(f"shares {', '.join(spelled)}: wanted each kind once, and a weight above 0")
        return tuple(Source(source.kinds, source.share / total) for source in sources if source.share > 0)


def _parse_source(text: str) -> Source:
    names, _, weight = text.partition("=")
    try:
        source = Source(tuple(SourceKind(name.strip()) for name in names.split("+")), float(weight))
    except ValueError:
        source = None
    if source is None or not source.share >= 0:
        raise ValueError(
            f"share {text!r}: wanted {' or '.join(PRESETS)}, or kind=weight, or kind+kind=weight, "
            f"of the kinds {', '.join(SourceKind)}"
        )
    return source


def choose_source(shares: Sequence[float], tokens: Sequence[int]) -> int:
    """Choose whose turn it is: who is the furthest behind.

    >>> choose_source([0.8, 0.2], [90, 20]), choose_source([0.8, 0.2], [90, 30])
    (1, 0)
    """
    return min(range(len(shares)), key=lambda number: tokens[number] / shares[number])


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a run has got of a source: the share it was to have, its tokens, how often it was gone through."""

    source: str
    wanted_share: float
    tokens: int
    epochs: float


def list_deliveries(sources: Sequence[Source], tokens: Sequence[int], epochs: Sequence[float]) -> tuple[Delivery, ...]:
    """Say of each source what was delivered; nothing where there is no mixture."""
    if len(sources) < 2:
        return ()
    rows = zip(sources, tokens, epochs, strict=True)
    return tuple(Delivery(source.name, source.share, count, passes) for source, count, passes in rows)
