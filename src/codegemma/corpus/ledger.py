"""Remembers which side of the held-out border every file was put on, so that it stays there in later builds.

**In**: the file that an earlier build into the same folder left, if it did.
**Out**: that file, with what this build has decided added to it.
**Not**: texts. A path that is gone keeps its side, for the day on which it comes back.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from codegemma.corpus.choices import CorpusChoices
from codegemma.errors import InputError
from codegemma.recipe import fingerprint
from codegemma.shards import read_records, write_records

LEDGER_FILE = "sides.parquet"


@dataclass(frozen=True, slots=True)
class Side:
    """Where one file was put. `rule` names the choices that it was put there by: by others, it may go elsewhere."""

    repo: str
    path: str
    is_heldout: bool
    rule: str


@dataclass(slots=True)
class Ledger:
    """For each repository, which paths are held out and which are trained on, by one rule."""

    rule: str
    sides: defaultdict[str, dict[str, bool]] = field(default_factory=lambda: defaultdict(dict))

    def note(self, repo: str, paths: Iterable[str], heldout: Collection[str]) -> None:
        """Add what was decided of a repository's files."""
        self.sides[repo].update((path, path in heldout) for path in paths)


def read_ledger(file: Path, choices: CorpusChoices) -> Ledger:
    """Read what was decided by the same rule; a file that is damaged or of another rule decides nothing.

    The rule is how files are held out, which share of them, and the seed.
    """
    ledger = Ledger(fingerprint(choices.heldout_by, choices.heldout_share, choices.seed))
    try:
        for side in read_records(file, Side) if file.exists() else ():
            if side.rule == ledger.rule:
                ledger.sides[side.repo][side.path] = side.is_heldout
    except InputError:
        ledger.sides.clear()
    return ledger


def write_ledger(file: Path, ledger: Ledger) -> None:
    """Write the ledger, sorted.

    Raises:
        OutputError: no permission or no space.
    """
    write_records(file, _list_sides(ledger), Side)


def _list_sides(ledger: Ledger) -> Iterator[Side]:
    for repo, sides in sorted(ledger.sides.items()):
        for path, is_heldout in sorted(sides.items()):
            yield Side(repo, path, is_heldout, ledger.rule)
