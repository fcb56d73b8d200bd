"""Tells which filters every file of a data folder has passed: in = kept + dropped, so what is packed passed them all.

**In**: a data folder.
**Out**: `Filters`, from the manifests of the builds that wrote it.
**Not**: a single file's story; the folder's `dropped*.parquet` name those that did not pass.
"""

from dataclasses import dataclass
from pathlib import Path

from codegemma.corpus import report as corpus_report
from codegemma.pack import report as pack_report
from codegemma.pack.pipeline import STAGE as SYNTAX_STAGE


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
    corpus, packs = corpus_report.read_manifest(folder), pack_report.read_manifest(folder)
    if corpus is None or packs is None:
        return None
    stages = {stage.stage: stage.files_dropped for stage in corpus.stages}
    stages[SYNTAX_STAGE] = sum(split.files_dropped for split in packs.splits.values())
    return Filters(stages, corpus.lists, corpus.fingerprint, packs.fingerprint, packs.order)
