"""Describe a data folder in Markdown: every number of a build, and no source.

    codegemma build REPO... --out data && python tools/describe_build.py data > build.md

**In**: `corpus.json` and `packs.json` of a data folder.
**Out**: Markdown on standard output.
**Not**: names of files.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from codegemma.corpus.report import read_manifest as read_corpus
from codegemma.pack.report import read_manifest as read_packs

MAX_ROWS = 40


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table of at most `MAX_ROWS` rows."""
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows[:MAX_ROWS]:
        print(f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else str(cell) for cell in row)} |")
    if len(rows) > MAX_ROWS:
        print(f"\nand {len(rows) - MAX_ROWS} more rows.")


def to_mb(size_bytes: int) -> str:
    """Spell bytes as megabytes."""
    return f"{size_bytes / 1e6:,.1f}"


def main() -> int:
    """Read the folder and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    corpus, packs = read_corpus(data), read_packs(data)
    if corpus is None or packs is None:
        raise SystemExit(f"{data}: no whole build there; run codegemma build")
    read_bytes = corpus.bytes_train + corpus.bytes_heldout + sum(drop.size_bytes for drop in corpus.dropped)
    print(f"{to_mb(read_bytes)} MB in {sum(repo.files_listed for repo in corpus.repos):,} listed files.")
    print_table(("repository", "files listed", "held out"), [(r.repo, r.files_listed, r.heldout) for r in corpus.repos])
    print_table(
        ("stage", "files in", "kept", "dropped"),
        [(s.stage, s.files_in, s.files_kept, s.files_dropped) for s in corpus.stages],
    )
    drops = sorted(corpus.dropped, key=lambda drop: -drop.files)
    print_table(("stage", "reason", "files", "MB"), [(d.stage, d.reason, d.files, to_mb(d.size_bytes)) for d in drops])
    print_table(
        ("licence", "files", "MB"),
        [(x.license or "none stated", x.files, to_mb(x.size_bytes)) for x in corpus.licenses],
    )
    print("\nPseudonyms: " + (", ".join(f"{n:,} {kind}" for kind, n in corpus.redactions.items()) or "none") + ".")
    print("".join(f"\n- {line}" for line in (*corpus.lists, *corpus.notes)))
    for name, split in packs.splits.items():
        print(
            f"\n{name}: {split.files_packed:,} files of {split.files_in:,}, {split.chars / 1e6:,.1f} M characters, ",
            end="",
        )
        print(f"{split.packs:,} packs, {split.edges:,} import edges, {split.paired_tests:,} tests paired.")
        print_table(("language", "files"), split.files_by_language.most_common())
        shares = [
            (order, f"{edges / max(split.edges, 1):.1%}") for order, edges in sorted(split.colocated_edges.items())
        ]
        print_table(("order", "import edges in one pack"), shares)
    seconds = {**corpus.seconds, **{f"packs: {step}": spent for step, spent in packs.seconds.items()}}
    print_table(("step", "seconds"), [(step, f"{spent:,.1f}") for step, spent in seconds.items()])
    return 0


if __name__ == "__main__":
    sys.exit(main())
