"""What can be chosen about packing, each with the source of its default.

**In**: nothing.
**Out**: `PackChoices`, part of every recipe.
**Not**: rows and windows of tokens: they are the loader's (`feed/choices.py`).
"""

from dataclasses import dataclass
from enum import StrEnum


class PackOrder(StrEnum):
    """How the files of a repository are put in packs.

    `CODEGEMMA`: one order for the whole repository, cut where the budget is full (report, section 2.3).
    `GROUPED`: packs joined of files that import each other, which keeps two to three times as many imports together.
    `ALPHABETICAL` and `RANDOM` know no imports: by name, and shuffled by a hash. They are for comparison.
    """

    GROUPED = "grouped"
    CODEGEMMA = "codegemma"
    ALPHABETICAL = "alphabetical"
    RANDOM = "random"


class PackFormat(StrEnum):
    """What files packs stand in: Parquet, or ArrayRecord with one JSON object for each pack."""

    PARQUET = "parquet"
    ARRAYRECORD = "arrayrecord"


@dataclass(frozen=True, slots=True)
class PackChoices:
    """Choices of the pack reach."""

    order: PackOrder = PackOrder.GROUPED
    # CodeGemma was trained on a context of 8,192 tokens.
    budget_tokens: int = 8192
    # The standard library has 3.5 in Gemma's vocabulary of 256,000; a little less, so that packs seldom overflow.
    # Smaller vocabularies hold fewer characters in a token.
    chars_per_token: float = 3.3
    # "Top N lines" in the report, which does not say N: 200 lines hold 85 % of all import statements.
    import_top_lines: int = 200
    # Share of a file's bytes in syntax errors above which it is dropped.
    max_error_share: float = 0.05
    # Parquet is smaller and known everywhere; Grain's own sources read ArrayRecord at random.
    format: PackFormat = PackFormat.PARQUET

    def __post_init__(self) -> None:
        """Refuse values that no repository could be packed with."""
        if self.budget_tokens < 1 or self.import_top_lines < 0:
            raise ValueError("budget_tokens must be at least 1, import_top_lines at least 0")
        if not self.chars_per_token > 0 or not 0 <= self.max_error_share <= 1:
            raise ValueError("chars_per_token must be positive, max_error_share between 0 and 1")

    @property
    def budget_chars(self) -> int:
        """Characters that fill a pack.

        >>> PackChoices(budget_tokens=1000, chars_per_token=3.3).budget_chars
        3300
        """
        return round(self.budget_tokens * self.chars_per_token)
