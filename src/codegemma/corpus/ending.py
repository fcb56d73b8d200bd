"""The end of a corpus build: the files of both sides, what was dropped, what leads imports, and the report.

**In**: a build whose every file has a side, or a reason to go.
**Out**: the outputs on disk and the `CorpusReport` about them.
**Not**: the manifest, which `pipeline.py` writes last.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from codegemma.corpus.border import Dividing
from codegemma.corpus.copies import UNREACHABLE
from codegemma.corpus.judge import SelectTask, select_texts
from codegemma.corpus.report import (
    CorpusReport,
    RepoCount,
    count_drops,
    count_kinds,
    count_licenses,
    count_redactions,
    count_stages,
)
from codegemma.corpus.under_way import (
    BUILD_FILES,
    DROPPED_FILE,
    HELDOUT_FILE,
    OUTPUTS,
    REFERENCES,
    STAGES,
    STEPS,
    TRAIN_FILE,
)
from codegemma.errors import InputError
from codegemma.recipe import fingerprint
from codegemma.records import BuildFile, DroppedFile, FileReference
from codegemma.shards import count_records, measure_parts, read_records, write_records
from codegemma.steps import publish, sweep


class Build(Dividing):
    """One build under way. Its methods are the stages, in the order in which `build_corpus` calls them."""

    def check_not_empty(self) -> None:
        """Refuse a build that leaves nothing to train on, and say what became of the files."""
        if self.census.is_train.any():
            return
        drops = sorted(count_drops(self.census.list_drops()), key=lambda drop: -drop.files)[:5]
        came = ", ".join(f"{drop.files} {drop.stage}/{drop.reason}" for drop in drops)
        wanted = ", ".join(self.choices.languages)
        raise InputError(f"nothing left to train on: dropped {came}; wanted {wanted} files, see corpus.languages")

    def write(self) -> dict[str, int]:
        """Write both sides and the dropped files; return the size of every file in bytes, by its name."""
        sides = {TRAIN_FILE: self.census.is_train, HELDOUT_FILE: self.census.is_heldout}
        tasks = {
            name: [
                SelectTask(texts, rows, self._name("files", ".parquet", texts.name, rows))
                for texts, rows, _ in self._list_texts(chosen)
            ]
            for name, chosen in sides.items()
        }
        self._run(select_texts, [task for each in tasks.values() for task in each], "write")
        for name, each in tasks.items():
            publish([task.out for task in each], self.out / name)
        write_records(self.out / DROPPED_FILE, self.census.list_drops(), DroppedFile)
        build_files = (file for shard in self.shards for file in read_records(shard.build_files, BuildFile))
        write_records(self.out / BUILD_FILES, build_files, BuildFile)
        write_records(self.out / REFERENCES, self._list_references(), FileReference)
        sweep(self.out / STEPS, self.found)
        return measure_parts(self.out, OUTPUTS)

    def _list_references(self) -> Iterator[FileReference]:
        """List the copies that went and the file that stays for each, also where that was dropped as a copy itself."""
        pairs = []
        for copy, kept in self.references.items():
            while kept in self.references:
                kept = self.references[kept]  # noqa: PLW2901 - one step along the chain
            if self.census.is_kept[kept]:
                pairs.append((copy, kept))
        numbers = np.array(pairs, np.int64).reshape(-1, 2)
        names = [self.census.list_columns(("repo", "path"), numbers[:, end]) for end in (0, 1)]
        yield from (FileReference(*copy, *kept) for copy, kept in sorted(zip(*names, strict=True)))

    def report(self, key: str, written: dict[str, int], lists: Sequence[str]) -> CorpusReport:
        """Count everything, and check that every listed file was either kept or dropped."""
        census, repositories = self.census, self.repositories
        dropped = count_drops(census.list_drops())
        stages = count_stages(STAGES, sum(x.files_listed for x in repositories), dropped)
        kept = census.find(census.is_kept)
        if stages[-1].files_kept != sum(count_records(self.out / name) for name in (TRAIN_FILE, HELDOUT_FILE)):
            raise AssertionError(f"files were lost: {stages}, but {len(kept)} were kept")
        unreached = sum(drop.files for drop in dropped if drop.reason == UNREACHABLE)
        if unreached:
            self.notes.append(f"{unreached} files or objects could not be reached in their stores: build again")
        return CorpusReport(
            fingerprint=fingerprint(key, "unreached") if unreached else key,  # the next build looks again
            repos=tuple(RepoCount(x.repo, x.commit, x.files_listed, self.how[x.repo]) for x in repositories),
            stages=stages,
            dropped=dropped,
            kinds=count_kinds(
                (kind, size_bytes, is_heldout)
                for (kind, size_bytes), is_heldout in zip(
                    census.list_columns(("kind", "size_bytes"), kept), census.is_heldout[kept].tolist(), strict=True
                )
            ),
            licenses=count_licenses(census.list_columns(("license", "size_bytes"), kept)),
            files_train=int(census.is_train.sum()),
            files_heldout=int(census.is_heldout.sum()),
            bytes_train=int(census.size_bytes[census.is_train].sum()),
            bytes_heldout=int(census.size_bytes[census.is_heldout].sum()),
            notes=tuple(self.notes),
            lists=tuple(lists),
            redactions=count_redactions(notes for (notes,) in census.list_columns(("redactions",), kept)),
            seconds=dict(sorted(self.seconds.items())),
            parquet_bytes=written,
        )
