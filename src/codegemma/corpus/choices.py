"""The choices of the corpus: what is read, what is refused, and what is held out.

**In**: nothing.
**Out**: `CorpusChoices`, the `corpus` group of a recipe.
**Not**: word lists and patterns; those are tables beside the rules that use them.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from codegemma.corpus.columns import parse_columns
from codegemma.corpus.english import English
from codegemma.corpus.licenses import expand_accepted
from codegemma.text.languages import DOCUMENT_LANGUAGES, LANGUAGES

# The bands of `sketches.py` find 87 % of the pairs with this Jaccard index, and fewer below.
MIN_FINDABLE_JACCARD = 0.6


class HeldoutBy(StrEnum):
    """What a held-out file has in common with its kind. Never a random file: its neighbours would give it away."""

    DIRECTORY = "directory"
    TIME = "time"


class ExactDuplicatePolicy(StrEnum):
    """Where a text may stand once: in the corpus, or in each repository, so that what it vendors stays in its packs."""

    EVERYWHERE = "everywhere"
    WITHIN_REPOS = "within_repos"


class NearDuplicatePolicy(StrEnum):
    """Which near-duplicates go. `across_repos` leaves those inside one repository, so that repositories stay whole.

    Documents side by side are no such whole: theirs go with either policy.
    """

    NONE = "none"
    ACROSS_REPOS = "across_repos"
    EVERYWHERE = "everywhere"


class ForkPolicy(StrEnum):
    """What becomes of a repository that is almost another one: nothing, a note in the report, or it goes whole."""

    KEEP = "keep"
    REPORT = "report"
    DROP = "drop"


class Notebooks(StrEnum):
    """What becomes of Jupyter notebooks: their cells are a file of source (`notebooks.py`), or they are dropped."""

    CELLS = "cells"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class CorpusChoices:
    """What the corpus may be told. "StarCoder2" is Lozhkov et al. (2024), section 3.1 and appendix A."""

    # All that a grammar is installed for: the languages of the model card.
    languages: tuple[str, ...] = tuple(LANGUAGES)

    # Which columns of Parquet inputs hold what, as `content=code,path=file`, where `columns.py` does not know them.
    parquet_columns: tuple[str, ...] = ()

    # What documents of plain text and JSON are that do not show it themselves: text, markdown or math (`documents.py`).
    document_language: str = "text"

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
    # A notebook is mostly outputs, which are left out before its text is measured against the limit above.
    notebooks: Notebooks = Notebooks.CELLS
    max_notebook_bytes: int = 16_777_216
    # Thresholds by language that take the place of our own (`quality_rules.toml`).
    quality_rules: str | None = None
    # Which documents stay, by the language they are written in (`english.py`). The model card: "primarily English".
    english: English = English.LIKELY

    # A copy that goes is a reference afterwards: imports of it lead to the file that stays, in the same repository.
    exact_duplicates: ExactDuplicatePolicy = ExactDuplicatePolicy.EVERYWHERE
    # StarCoder2 drops near-duplicates wherever they are; ours leaves a repository as its people keep it: packs are made
    # of whole repositories, and a missing file breaks their import graph.
    near_duplicates: NearDuplicatePolicy = NearDuplicatePolicy.ACROSS_REPOS
    # StarCoder2: Jaccard of 5-gram shingles. Exact to 0.03 (`sketches.py`).
    min_near_duplicate_jaccard: float = 0.7
    # DeepSeek-Coder compares whole repositories and drops; a name does not tell which of two is the fork, so we report.
    forks: ForkPolicy = ForkPolicy.REPORT

    # Files or folders of benchmarks that must not be trained on (`benchmarks.py`), and a TOML file of the items and
    # texts that are none the less allowed (`decontaminate.py`).
    decontaminate: tuple[str, ...] = ()
    decontamination_allow_list: str | None = None

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
        if not MIN_FINDABLE_JACCARD <= self.min_near_duplicate_jaccard <= 1.0:
            raise ValueError(
                f"min_near_duplicate_jaccard={self.min_near_duplicate_jaccard}: wanted {MIN_FINDABLE_JACCARD} to 1; "
                "files less alike are not found reliably"
            )
        if self.decontamination_allow_list is not None and not self.decontaminate:
            raise ValueError("decontamination_allow_list without decontaminate: name the benchmarks that it is for")
        if (
            self.exact_duplicates is ExactDuplicatePolicy.WITHIN_REPOS
            and self.near_duplicates is not NearDuplicatePolicy.NONE
        ):
            raise ValueError(
                f"near_duplicates={self.near_duplicates} drops what exact_duplicates=within_repos keeps: what is the "
                "same is almost the same, too; choose near_duplicates=none"
            )
        expand_accepted(self.licenses)
        parse_columns(self.parquet_columns)
        if self.document_language not in DOCUMENT_LANGUAGES:
            known = ", ".join(DOCUMENT_LANGUAGES)
            raise ValueError(f"document_language={self.document_language!r}: wanted one of {known}")
        unknown = [language for language in self.languages if language not in LANGUAGES]
        if unknown or not self.languages:
            came = f"unknown: {', '.join(unknown)}" if unknown else "none given"
            raise ValueError(f"languages: {came}; wanted some of {', '.join(LANGUAGES)}")


def narrow(choices: CorpusChoices, names: Collection[str]) -> CorpusChoices:
    """Keep the named choices and put all others at their defaults: a step given these cannot hang on any other.

    >>> narrow(CorpusChoices(seed=3, max_file_bytes=80), ["seed"]) == CorpusChoices(seed=3)
    True
    """
    return CorpusChoices(**{name: getattr(choices, name) for name in names})
