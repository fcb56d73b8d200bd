"""How packs become training rows: the values that a recipe may set.

**In**: nothing.
**Out**: `FeedChoices`.
**Not**: batch size and window, which the training chooses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codegemma.errors import UserError
from codegemma.feed.mixture import MixtureChoices
from codegemma.recipe import to_plain
from codegemma.records import InfillMode

HOLE_KINDS = ("uniform", "log_uniform", "line", "rest_of_line", "syntax")


@dataclass(frozen=True, slots=True)
class FeedChoices:
    """The infill specification's free values. Shares are probabilities; the five `hole_*` shares are relative weights.

    CodeGemma: `infill_share` 0.8 (0.9 for 2B 1.1), modes half and half (model card). The rest Google did not publish.
    """

    infill_share: float = 0.8
    spm_share: float = 0.5
    # Which SPM: variant 2 (`spm`), where a prefix that grows only appends to the prompt, or variant 1 (`spm1`).
    spm_mode: InfillMode = InfillMode.SPM
    path_share: float = 0.9
    # Where the hole lies: both borders uniform in characters; a length log-uniform in 1 to max_log_uniform_chars; a
    # line's content after its indentation; the rest of a line from anywhere in it; nodes of the syntax tree, one whole
    # or several siblings (AST-FIM, Gong et al. 2506.00204).
    hole_uniform: float = 1.0
    hole_log_uniform: float = 0.0
    hole_line: float = 0.0
    hole_rest_of_line: float = 0.0
    hole_syntax: float = 0.0
    max_log_uniform_chars: int = 256
    # The suffix start moves forward to a natural cut this often, and at most this far (else to the line's end): a
    # cursor can be anywhere, but what follows a finished completion is a natural point.
    natural_share: float = 0.9
    max_natural_shift_chars: int = 256
    # Loss weight of the middle and the token that ends it, relative to everything else.
    middle_weight: float = 1.0
    # Windows aim at a length drawn between this share of a row and the whole row. Where one window fills one row, as in
    # short rows, the end of the last middle always comes near the row's end, and a model learns to end by position.
    min_window_share: float = 1.0
    # Number of rows that are filled at the same time; more bins fill better and mix packs more.
    packing_bins: int = 32
    mixture: MixtureChoices = field(default_factory=MixtureChoices)

    @property
    def infill_modes(self) -> tuple[InfillMode, ...]:
        """The orders of the parts that a model will have seen, the one that suits a cursor best first."""
        shares = {self.spm_mode: self.spm_share, InfillMode.PSM: 1 - self.spm_share}
        return tuple(mode for mode, share in shares.items() if share * self.infill_share > 0)

    def __post_init__(self) -> None:
        """Refuse values that are no probability or no weight."""
        # A recipe file may spell the mode as text, and a manifest the mixture as plain data.
        object.__setattr__(self, "spm_mode", InfillMode(self.spm_mode))
        if isinstance(self.mixture, Mapping):
            object.__setattr__(self, "mixture", MixtureChoices(**self.mixture))
        for name in ("infill_share", "spm_share", "path_share", "natural_share", "min_window_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share between 0 and 1, got {getattr(self, name)}")
        weights = [getattr(self, f"hole_{kind}") for kind in HOLE_KINDS]
        if min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(f"the hole_* weights must not be negative and not all zero, got {weights}")
        if self.spm_mode is InfillMode.PSM:
            raise ValueError(f"spm_mode={self.spm_mode}: wanted spm or spm1; for PSM alone set spm_share to 0")
        if min(self.max_log_uniform_chars, self.max_natural_shift_chars, self.packing_bins) < 1:
            raise ValueError("max_log_uniform_chars, max_natural_shift_chars and packing_bins are at least 1")


def describe_feed(choices: FeedChoices) -> dict[str, Any]:
    """Spell the choices as plain data; without a mixture, as they were before there were mixtures.

    >>> "mixture" in describe_feed(FeedChoices()), FeedChoices(**describe_feed(FeedChoices())) == FeedChoices()
    (False, True)
    """
    plain: dict[str, Any] = to_plain(choices)
    if choices.mixture == MixtureChoices():
        del plain["mixture"]
    return plain


class FeedError(UserError):
    """The packs cannot feed a training run; the message says why."""

    exit_code = 3
