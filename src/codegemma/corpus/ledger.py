"""Remembers which side of the held-out border every file was put on, so that it stays there, and where it moves to.

**In**: the file that an earlier build into the same folder left, if it did.
**Out**: that file, with what this build has decided added to it.
**Not**: texts, only their digests. A path that is gone keeps its side, for the day on which it comes back.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codegemma.corpus.choices import CorpusChoices
from codegemma.errors import InputError
from codegemma.recipe import fingerprint
from codegemma.shards import read_records, write_records

LEDGER_FILE = "sides.parquet"


@dataclass(frozen=True, slots=True)
class Side:
    """Where one file was put. `rule` names the choices that it was put there by: by others, it may go elsewhere.

    `digest` names what the file held, up to white space; a file that was edited stands here once for each text.
    """

    repo: str
    path: str
    digest: str
    is_heldout: bool
    rule: str


@dataclass(slots=True)
class Ledger:
    """For each repository, which paths are held out and which are trained on, by one rule; and so for texts.

    `texts` hold the paths of a repository with what stood there; a digest is held out if no path that held it was
    trained on. With `is_damaged`, there was a file that could not be read.
    """

    rule: str
    sides: defaultdict[str, dict[str, bool]] = field(default_factory=lambda: defaultdict(dict))
    texts: defaultdict[str, dict[tuple[str, str], bool]] = field(default_factory=lambda: defaultdict(dict))
    digests: defaultdict[str, dict[str, bool]] = field(default_factory=lambda: defaultdict(dict))
    is_damaged: bool = False

    def note(self, repo: str, digests: Mapping[str, str], heldout: Collection[str]) -> None:
        """Add what was decided of a repository's files: `digests` of their texts by path."""
        for path, digest in digests.items():
            self.add(repo, path, digest, path in heldout)

    def add(self, repo: str, path: str, digest: str, is_heldout: bool) -> None:
        """Add what was decided of one file."""
        self.sides[repo][path] = is_heldout
        self.texts[repo][path, digest] = is_heldout
        self.digests[repo][digest] = self.digests[repo].get(digest, True) and is_heldout

    def find_sides(self, repo: str, digests: Mapping[str, str]) -> dict[str, bool]:
        """Tell which sides are decided: of the paths seen before, and of files that moved here without a change.

        >>> ledger = Ledger("rule")
        >>> ledger.note("r", {"a/x.py": "1", "b/y.py": "2"}, heldout={"b/y.py"})
        >>> ledger.find_sides("r", {"b/x.py": "1", "a/y.py": "2", "a/z.py": "3"})
        {'a/x.py': False, 'b/y.py': True, 'b/x.py': False, 'a/y.py': True}
        """
        sides, known = self.sides.get(repo, {}), self.digests.get(repo, {})
        moved = {path: known[digest] for path, digest in digests.items() if path not in sides and digest in known}
        return sides | moved


def read_ledger(file: Path, choices: CorpusChoices) -> Ledger:
    """Read what was decided by the same rule; a file that is damaged or of another rule decides nothing.

    The rule is how files are held out, which share of them, and the seed.
    """
    ledger = Ledger(fingerprint(choices.heldout_by, choices.heldout_share, choices.seed))
    try:
        for side in read_records(file, Side) if file.exists() else ():
            if side.rule == ledger.rule:
                ledger.add(side.repo, side.path, side.digest, side.is_heldout)
    except InputError:
        return Ledger(ledger.rule, is_damaged=True)
    return ledger


def write_ledger(file: Path, ledger: Ledger) -> None:
    """Write the ledger, sorted.

    Raises:
        OutputError: no permission or no space.
    """
    write_records(file, _list_sides(ledger), Side)


def _list_sides(ledger: Ledger) -> Iterator[Side]:
    for repo, texts in sorted(ledger.texts.items()):
        for (path, digest), is_heldout in sorted(texts.items()):
            yield Side(repo, path, digest, is_heldout, ledger.rule)
