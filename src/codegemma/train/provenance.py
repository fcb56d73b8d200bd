"""Tells which filters every file of a data folder has passed: in = kept + dropped, so what is packed passed them all.

**In**: a data folder, or the folder of a round, which keeps packs of a build that others may have followed.
**Out**: `Filters`, from the manifests of the builds that wrote it; for a round, written down when it was planned.
**Not**: a single file's story; the folder's `dropped*.parquet` name those that did not pass.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from codegemma.corpus import report as corpus_report
from codegemma.files import write_whole
from codegemma.pack import report as pack_report
from codegemma.pack.pipeline import STAGE as SYNTAX_STAGE
from codegemma.recipe import from_plain, to_plain

FILTERS_FILE = "filters.json"


@dataclass(frozen=True, slots=True)
class Filters:
    """The stages in order, with how many files each dropped; the operator's lists that were heeded; how it was packed.

    The fingerprints hash versions, choices and input of the two builds: equal ones made equal files.
    """

    stages: dict[str, int]
    lists: tuple[str, ...]
    corpus_fingerprint: str
    packs_fingerprint: str
    pack_order: str


def read_filters(data: Path) -> Filters | None:
    """Read what the builds wrote down; `None` where the packs stand without their manifests, or with others'."""
    folder = data if data.is_dir() else data.parent
    return _read_own_filters(folder) or _read_build_filters(folder)


def write_filters(data: Path, folder: Path) -> None:
    """Write beside packs that were taken from a data folder what their files have passed, while it is known.

    Raises:
        OutputError: no permission or no space.
    """
    if (filters := _read_build_filters(data)) is not None:
        write_whole(folder / FILTERS_FILE, (json.dumps(to_plain(filters), indent=1) + "\n").encode())


def _read_own_filters(folder: Path) -> Filters | None:
    try:
        found: Filters = from_plain(Filters, json.loads((folder / FILTERS_FILE).read_text(encoding="utf-8")))
        return found
    except (OSError, ValueError):
        return None


def _read_build_filters(folder: Path) -> Filters | None:
    corpus, packs = corpus_report.read_manifest(folder), pack_report.read_manifest(folder)
    if corpus is None or packs is None:
        return None
    stages = {stage.stage: stage.files_dropped for stage in corpus.stages}
    stages[SYNTAX_STAGE] = sum(split.files_dropped for split in packs.splits.values())
    return Filters(stages, corpus.lists, corpus.fingerprint, packs.fingerprint, packs.order)
