"""The rounds of a job on repositories that change: what each one trains on, and which model is the newest.

**In**: a job's folder, and the packs that were built last.
**Out**: `rounds/N/` for each round: its own packs, its run, its model; `RoundPlan`; the newest model at `model/`.
**Not**: training. A round keeps its packs, so that it goes on with them however often the data are built anew.

A round has begun when its run has (`run.json`) and is whole when `trained.parquet` stands there, written after the
model. Nothing of a round is ever moved or changed, so a kill at any moment leaves every whole model where it was.
"""

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from codegemma.errors import InputError, OutputError
from codegemma.files import write_whole
from codegemma.folders import claim_folder
from codegemma.model.publish import publish_model
from codegemma.recipe import to_plain
from codegemma.records import Pack
from codegemma.round_files import (
    PACKS_FILE,
    ROUND_FILE,
    TRAINED_FILE,
    TrainedFile,
    check_untainted,
    find_round,
    is_finished,
)
from codegemma.shards import find_format, list_parts, read_records, write_records
from codegemma.steps import publish, remove_output
from codegemma.train.choices import TrainChoices
from codegemma.train.manifest import (
    MODEL_FOLDER,
    ROUNDS_FOLDER,
    RUN_FILE,
    check_same_choices,
    find_rounds,
    read_manifest,
)
from codegemma.train.provenance import write_filters

# Repository and path, and the blob that was learned.
Known = dict[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """What one round trains on. The counts of files and packs are those of the training side of the data.

    `first_chars` are the characters of the first round; `first_steps`, those of its run, are `None` in it.
    """

    number: int
    choices: dict[str, Any]
    files: int
    files_new: int
    files_changed: int
    packs: int
    packs_changed: int
    packs_rehearsed: int
    chars_changed: int
    chars_rehearsed: int
    first_chars: int
    first_steps: int | None

    @property
    def chars(self) -> int:
        """Characters that the round trains on."""
        return self.chars_changed + self.chars_rehearsed

    @property
    def rehearsed_share(self) -> float:
        """Which share of these characters stands in packs without a change."""
        return self.chars_rehearsed / max(self.chars, 1)

    def fit_length(self, train: TrainChoices) -> TrainChoices:
        """Give a further round as many passes over its characters as the first had, but no more steps.

        Rates stay the recipe's; the warm-up keeps its share of the steps.
        """
        if self.first_steps is None:
            return train
        share = min(1.0, self.chars / max(self.first_chars, 1))
        steps = max(1, round(self.first_steps * share))
        return dataclasses.replace(
            train, steps=steps, warmup_steps=round(train.warmup_steps * steps / self.first_steps)
        )

    def describe(self) -> str:
        """Say in one sentence what the round trains on."""
        if self.number == 1:
            return f"round 1: all {self.files:,} training files in {self.packs:,} packs"
        return (
            f"round {self.number}: {self.files_new:,} new and {self.files_changed:,} changed of {self.files:,} "
            f"training files; trained on the {self.packs_changed:,} of {self.packs:,} packs that hold one, and on "
            f"{self.packs_rehearsed:,} others to rehearse ({self.rehearsed_share:.0%} of the characters)"
        )


class PackSize(NamedTuple):
    """What choosing packs for a round needs to know of one."""

    pack_id: str
    chars: int


def find_begun(out: Path) -> int:
    """Tell the newest round whose run has begun, or 0."""
    return max(find_rounds(out), default=0)


def find_finished(out: Path) -> int:
    """Tell the newest round whose model is whole, or 0."""
    return max((number for number, folder in find_rounds(out).items() if is_finished(folder)), default=0)


def check_rounds(out: Path, choices: Mapping[str, Any]) -> None:
    """Refuse rounds of other choices, or that learned what was removed since, and a model that no round made.

    A choice that the version of an earlier round did not know yet is none of its choices.

    Raises:
        OutputError: the message lists what differs, or says what lies there.
    """
    if begun := find_begun(out):
        before, now = _keep_common(read_round(out, begun).choices, choices)
        check_same_choices(out, before, now)
    check_untainted(out)
    if not find_finished(out) and (out / MODEL_FOLDER).exists():
        raise OutputError(
            f"{out / MODEL_FOLDER} was made by no round in {out / ROUNDS_FOLDER}; choose another --out, or move it away"
        )


def _keep_common(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    pairs = {}
    for name in before.keys() & now.keys():
        both = before[name], now[name]
        pairs[name] = _keep_common(*both) if all(isinstance(side, Mapping) for side in both) else both
    return {name: left for name, (left, _) in pairs.items()}, {name: right for name, (_, right) in pairs.items()}


def plan_round(
    data: Path, out: Path, choices: Mapping[str, Any], rehearsal_share: float, seed: int
) -> RoundPlan | None:
    """Compare the packs of `data` with what the newest whole model learned; fix what the next round trains on.

    The packs are linked or written into the round's folder, with what their files have passed; then its `round.json`.
    `None` if no file of the training side is new or changed. A round that was planned and never begun is planned anew.

    Raises:
        OutputError: no permission or no space.
    """
    finished = find_finished(out)
    known = read_trained(out, finished)
    files_new = files_changed = files = 0
    changed: list[PackSize] = []
    others: list[PackSize] = []
    for pack in read_records(data / PACKS_FILE, Pack):
        # An empty file teaches nothing: a round on it alone could not even begin.
        blobs = [(known.get((pack.repo, file.path)), file.blob) for file in pack.files if file.text]
        new = sum(learned is None for learned, _ in blobs)
        stale = sum(learned not in (None, blob) for learned, blob in blobs)
        files, files_new, files_changed = files + len(pack.files), files_new + new, files_changed + stale
        size = PackSize(pack.pack_id, sum(len(file.text) for file in pack.files))
        (changed if new or stale else others).append(size)
    if not changed:
        return None
    rehearsed = choose_rehearsal(changed, others, rehearsal_share, seed, finished + 1)
    first_chars, first_steps = read_first(out, finished) if finished else (None, None)
    chars_changed, chars_rehearsed = (sum(pack.chars for pack in packs) for packs in (changed, rehearsed))
    planned = RoundPlan(
        number=finished + 1,
        choices=dict(choices),
        files=files,
        files_new=files_new,
        files_changed=files_changed,
        packs=len(changed) + len(others),
        packs_changed=len(changed),
        packs_rehearsed=len(rehearsed),
        chars_changed=chars_changed,
        chars_rehearsed=chars_rehearsed,
        first_chars=chars_changed if first_chars is None else first_chars,
        first_steps=first_steps,
    )
    _fix_round(data, find_round(out, planned.number), planned, {pack.pack_id for pack in (*changed, *rehearsed)})
    return planned


def read_first(out: Path, number: int) -> tuple[int, int]:
    """Tell how many characters and steps the first round had, from a later one; every round hands it on.

    Raises:
        InputError: the round's files are missing or damaged.
    """
    planned, manifest = read_round(out, number), read_manifest(find_round(out, number))
    if planned.first_steps is None and manifest is None:
        raise InputError(f"{find_round(out, number) / RUN_FILE} is missing; choose another --out")
    return planned.first_chars, planned.first_steps or (manifest.total_steps if manifest else 1)


def choose_rehearsal(
    changed: Sequence[PackSize], others: Sequence[PackSize], share: float, seed: int, number: int
) -> list[PackSize]:
    """Draw packs in the order of a keyed hash, another one in each round, until they are `share` of all characters.

    A pack that would lead further away from that mark is passed over; where each would, the first is taken.

    >>> packs = [PackSize(name, 10) for name in "abcdefgh"]
    >>> [pack.pack_id for pack in choose_rehearsal([PackSize("new", 60)], packs, 0.25, seed=0, number=2)]
    ['e', 'd']
    """
    target = sum(pack.chars for pack in changed) * share / (1 - share)
    order = sorted(others, key=lambda pack: xxhash.xxh3_128_digest(f"{number}\n{pack.pack_id}".encode(), seed))
    chosen: list[PackSize] = []
    chars = 0
    for pack in order:
        if pack.chars <= 2 * (target - chars):
            chosen.append(pack)
            chars += pack.chars
    return chosen or (order[:1] if target > 0 else [])


def _fix_round(data: Path, folder: Path, planned: RoundPlan, chosen: set[str]) -> None:
    claim_folder(folder)
    try:
        (folder / ROUND_FILE).unlink(missing_ok=True)
        remove_output(folder / PACKS_FILE)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from error
    if len(chosen) == planned.packs:
        publish(list_parts(data / PACKS_FILE), folder / PACKS_FILE)
    else:
        packs = (pack for pack in read_records(data / PACKS_FILE, Pack) if pack.pack_id in chosen)
        write_records(folder / PACKS_FILE, packs, Pack)
    write_filters(data, folder)
    write_whole(folder / ROUND_FILE, (json.dumps(to_plain(planned), indent=1) + "\n").encode())


def read_round(out: Path, number: int) -> RoundPlan:
    """Read what a round was planned to train on.

    Raises:
        InputError: its file is missing or damaged.
    """
    file = find_round(out, number) / ROUND_FILE
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
        return RoundPlan(**{field.name: plain[field.name] for field in dataclasses.fields(RoundPlan)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is no round of this version ({error!r}); choose another --out") from error


def read_trained(out: Path, number: int) -> Known:
    """Read what the model of a round has learned, in it and in those before; nothing for round 0.

    Raises:
        InputError: the file is damaged.
    """
    file = find_round(out, number) / TRAINED_FILE
    return {(seen.repo, seen.path): seen.blob for seen in (read_records(file, TrainedFile) if number else ())}


def finish_round(out: Path, number: int) -> None:
    """Note what the round's model, which is whole, has learned; put it at `model/`; drop what nothing needs any more.

    Raises:
        OutputError: no permission or no space.
    """
    folder = find_round(out, number)
    known = read_trained(out, find_finished(out))
    for pack in read_records(folder / PACKS_FILE, Pack):
        known |= {(pack.repo, file.path): file.blob for file in pack.files}
    write_records(folder / TRAINED_FILE, _list_trained(known), TrainedFile)
    publish_model(folder / MODEL_FOLDER, out / MODEL_FOLDER, last=RUN_FILE)
    for earlier, its_folder in find_rounds(out).items():
        if earlier < number:
            shutil.rmtree(its_folder / "checkpoints", ignore_errors=True)


def _list_trained(known: Known) -> Iterator[TrainedFile]:
    return (TrainedFile(repo, path, blob) for (repo, path), blob in sorted(known.items()))


def list_trained_packs(out: Path) -> list[Path]:
    """List the packs of every round that has begun: all texts that a model here may have learned from."""
    packs = [find_format(folder / PACKS_FILE) for folder in find_rounds(out).values()]
    return [file for file in packs if file.exists()]
