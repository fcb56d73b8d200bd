"""Writes packs that were planned: brings the texts and the cuts of their files together.

**In**: a `WriteTask`: consecutive plans of one split.
**Out**: one part of `packs-train.parquet` or `packs-heldout.parquet`, or of the like in ArrayRecord.
**Not**: more than these packs in memory, however large the repository is.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codegemma.pack.link import PackPlan
from codegemma.pack.parse import FileCuts, ParseTask
from codegemma.recipe import fingerprint
from codegemma.records import Pack, PackedFile, SourceFile
from codegemma.shards import PARQUET_SUFFIX, read_rows, write_records


@dataclass(frozen=True, slots=True)
class WriteTask:
    """Plans, and the parsed parts by the names that the plans use."""

    plans: tuple[PackPlan, ...]
    parsed: dict[str, ParseTask]
    out: Path

    @property
    def size(self) -> int:
        """Packs."""
        return len(self.plans)


def make_write_task(
    plans: Sequence[PackPlan], parsed: Mapping[str, ParseTask], folder: Path, suffix: str = PARQUET_SUFFIX
) -> WriteTask:
    """Name a task by its plans: their parts are named by content. The suffix says in which format packs are written."""
    wanted = {name: parsed[name] for plan in plans for name in plan.parts}
    key = fingerprint([(plan.pack_id, plan.parts, plan.rows) for plan in plans])
    return WriteTask(tuple(plans), wanted, folder / f"packs-{key}{suffix}")


def write_packs(task: WriteTask) -> dict[str, float]:
    """Write the packs; return seconds of CPU time by step."""
    started_s = time.process_time()
    files = _read_files(task)
    packs = (
        Pack(
            plan.pack_id,
            plan.repo,
            plan.commit,
            plan.split,
            tuple(files[place] for place in zip(plan.parts, plan.rows, strict=True)),
        )
        for plan in task.plans
    )
    write_records(task.out, packs, Pack)
    return {"write_cpu_s": time.process_time() - started_s}


def _read_files(task: WriteTask) -> dict[tuple[str, int], PackedFile]:
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for plan in task.plans:
        for part, row in zip(plan.parts, plan.rows, strict=True):
            rows_of[part].append(row)
    files = {}
    for part, rows in rows_of.items():
        parsed = task.parsed[part]
        sources, cuts = read_rows(parsed.part, SourceFile, rows), read_rows(parsed.out, FileCuts, rows)
        for row, source, cut in zip(sorted(rows), sources, cuts, strict=True):
            files[part, row] = _join(source, cut)
    return files


def _join(source: SourceFile, cuts: FileCuts) -> PackedFile:
    return PackedFile(
        path=source.path,
        language=source.language,
        text=source.text,
        blob=source.blob,
        license=source.license,
        natural_cuts=cuts.natural_cuts,
        block_starts=cuts.block_starts,
        redactions=source.redactions,
    )
