"""The choices of the corpus: what is read, what is refused, and what is held out.

**In**: nothing.
**Out**: `CorpusChoices`, the `corpus` group of a recipe.
**Not**: word lists and patterns; those are tables beside the rules that use them.
"""

from dataclasses import dataclass
from enum import StrEnum

from codegemma.corpus.licenses import expand_accepted
from codegemma.text.languages import LANGUAGES


class HeldoutBy(StrEnum):
    """What a held-out file has in common with its kind. Never a random file: its neighbours would give it away."""

    DIRECTORY = "directory"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class CorpusChoices:
    """What the corpus may be told. "StarCoder2" is Lozhkov et al. (2024), section 3.1 and appendix A."""

    languages: tuple[str, ...] = ("python",)

    # Which licences are accepted: SPDX identifiers, or `permissive`; none named accepts every licence.
    licenses: tuple[str, ...] = ()
    # StarCoder2 keeps files under no stated licence. Its own code is what a team rarely puts a licence on.
    keep_unlicensed: bool = True

    # A file that names who does not want to be trained on (`opt_out.py`); `.noai` files are heeded with or without one.
    opt_out: str | None = None

    # A gitleaks configuration that takes the place of our own rules for secrets (`secret_rules.py`).
    secret_rules: str | None = None

    # A hashed list of illegal content, which only the operator may have (`block_list.py`).
    block_list: str | None = None

    # Whether e-mail and IP addresses and telephone numbers become pseudonyms (`personal.py`), and a file whose content
    # is their key. Without a key, whoever guesses an address can tell by its pseudonym that the guess is right.
    replace_personal: bool = True
    pseudonym_key_file: str | None = None
    # What finds names of people, so that they become pseudonyms too: an installed plug-in, which is code that the
    # operator trusts, by its entry point or as `module:function` (`names.py`).
    names_plugin: str | None = None

    # Ours: of source that people wrote, almost nothing is larger; StarCoder2 allows 10 MB before its line filters.
    max_file_bytes: int = 1_048_576
    # Thresholds by language that take the place of our own (`quality_rules.toml`).
    quality_rules: str | None = None

    heldout_by: HeldoutBy = HeldoutBy.DIRECTORY
    heldout_share: float = 0.1
    # StarCoder2's near-duplicate border: Jaccard of 5-gram shingles.
    max_heldout_jaccard: float = 0.7
    # Ours: a held-out file most of whose shingles stand in one training file is a copy of a part of it.
    max_heldout_containment: float = 0.8
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse unknown languages and shares outside their range."""
        if not 0.0 <= self.heldout_share < 1.0:
            raise ValueError(f"heldout_share={self.heldout_share}: wanted at least 0 and below 1")
        expand_accepted(self.licenses)
        unknown = [language for language in self.languages if language not in LANGUAGES]
        if unknown or not self.languages:
            came = f"unknown: {', '.join(unknown)}" if unknown else "none given"
            raise ValueError(f"languages: {came}; wanted some of {', '.join(LANGUAGES)}")
