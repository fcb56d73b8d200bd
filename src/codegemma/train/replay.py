"""Opens what a run read, step by step: the very batches, recomputed and checked against the run's own marks.

**In**: the folder of a run or of its model, and its data folder.
**Out**: `Replay`, which gives the batch of any step.
**Not**: parameters; no step is taken again. Nothing is stored for each token: `rows.jsonl` has a line for every line of
metrics, with a hash of that step's batch and where the loader stood after it, so that a replay begins near its step.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegemma import __version__
from codegemma.errors import InputError
from codegemma.feed.choices import FeedChoices, describe_feed
from codegemma.feed.loader import KnownBatch, Loader, RowShape, hash_batch, open_loader
from codegemma.records import Batch
from codegemma.runner import Progress, ignore_progress
from codegemma.shards import hash_files, list_parts
from codegemma.text.tokenizer import TOKENIZER_FILE, Tokenizer
from codegemma.train.job import hash_tokenizer, locate_packs
from codegemma.train.manifest import MODEL_FOLDER, RunManifest, find_rounds, read_manifest
from codegemma.train.meters import read_metrics

ROWS_FILE = "rows.jsonl"
_DATA_FOLDER = "data"


def mark_rows(step: int, batch: Batch, loader: Loader) -> dict[str, Any]:
    """Make the line of `rows.jsonl` for a step: the hash of its batch, and where the loader stands after it."""
    return {"step": step, "rows": hash_batch(batch), "loader": loader.get_state()}


def describe_rows(data: Path, tokenizer: Tokenizer, feed: FeedChoices, seed: int) -> dict[str, Any]:
    """Gather what decides a loader's rows besides their shape, files by their hash."""
    return {
        "data": hash_files(list_parts(locate_packs(data))),
        "tokenizer": hash_tokenizer(tokenizer),
        "feed": describe_feed(feed),
        "seed": seed,
        "codegemma_version": __version__,
    }


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Where the parts of a run lie, each checked to be that run's."""

    run: Path
    manifest: RunManifest
    data: Path
    tokenizer: Tokenizer
    feed: FeedChoices
    shape: RowShape
    seed: int

    def describe_rows(self) -> dict[str, Any]:
        """Gather what decides the rows."""
        return describe_rows(self.data, self.tokenizer, self.feed, self.seed)


def find_run_files(run: Path | None, data: Path | None, tokenizer: Path | None = None) -> RunFiles:
    """Find a run, its data and its tokenizer, and check that they belong together.

    `run` may be the run's model folder, or a job's, whose newest round it is then. Without `run`, it is the folder
    around `data`; without `data`, it is the run's own `data` folder, or the packs that a round keeps.

    Raises:
        InputError: one of them is not there or not that run's; the message says which and what to do.
    """
    if run is None:
        if data is None:
            raise InputError("neither a run nor a data folder is given; name the folder that `codegemma train` wrote")
        run = _enter_round((data if data.is_dir() else data.parent).resolve().parent)
        if read_manifest(run) is None:
            raise InputError(f"which run read {data}? It does not lie in a run's folder; name the run's folder as well")
    run = _enter_round(run)
    manifest = read_manifest(run)
    if manifest is None:
        raise InputError(f"{run} holds no run.json; wanted a folder that `codegemma train` or `adapt` wrote")
    run = _leave_model_folder(run, manifest)
    data = _find_data(run) if data is None else data
    if (came := hash_files(list_parts(locate_packs(data)))) != manifest.identity.get("data"):
        raise InputError(
            f"{locate_packs(data)} is not what the run in {run} was trained on (its hash is {came}, the run's is "
            f"{manifest.identity.get('data')}); name the run's own data folder, or build it again as it was. What was "
            "removed from it on request (`codegemma forget`) cannot be told any more"
        )
    try:
        train = manifest.identity["train"]
        feed = FeedChoices(**manifest.identity["feed"])
        shape, seed = RowShape(int(train["batch_rows"]), int(train["row_tokens"])), int(train["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the choices in {run} are not those of this version ({error}); it was made by codegemma "
            f"{manifest.codegemma_version}: use that"
        ) from error
    return RunFiles(run, manifest, data, _find_tokenizer(run, manifest, tokenizer), feed, shape, seed)


def _enter_round(folder: Path) -> Path:
    """Go from a job's folder to its newest round."""
    rounds = find_rounds(folder)
    return rounds[max(rounds)] if rounds else folder


def _leave_model_folder(folder: Path, manifest: RunManifest) -> Path:
    """Go from a model's folder to the run that made it: around it, or a round of the job around it."""
    around = folder.resolve().parent
    for place in (around, *find_rounds(around).values()):
        with contextlib.suppress(InputError):
            found = read_manifest(place)
            if found is not None and found.fingerprint == manifest.fingerprint:
                return place
    return folder


def _find_data(run: Path) -> Path:
    if locate_packs(run).exists():
        return run
    if not locate_packs(run / _DATA_FOLDER).exists():
        raise InputError(
            f"{run} does not hold the data that it was trained on; say where that is now: "
            "--data with the folder that `codegemma build` wrote"
        )
    return run / _DATA_FOLDER


def _find_tokenizer(run: Path, manifest: RunManifest, given: Path | None) -> Tokenizer:
    places = [run / TOKENIZER_FILE, run / MODEL_FOLDER / TOKENIZER_FILE] if given is None else [given]
    for place in places:
        if given is not None or place.is_file():
            tokenizer = Tokenizer.load(place)
            if hash_tokenizer(tokenizer) == manifest.identity.get("tokenizer"):
                return tokenizer
    raise InputError(
        f"the tokenizer of the run in {run} is not at {' or '.join(map(str, places))}; "
        "say where it is: --tokenizer with its tokenizer.json or its model's folder"
    )


@dataclass(frozen=True, slots=True)
class ReplayedBatch:
    """The batch of a step. `is_checked` says that a mark of the run vouches for it: it is the batch of `checked_step`.

    Batches follow from each other, so a mark after the step, or of the step itself, vouches for it.
    """

    step: int
    known: KnownBatch
    is_checked: bool


class Replay:
    """A run's loader, opened again."""

    def __init__(self, files: RunFiles) -> None:
        """Open the loader; see `open_replay`."""
        self.files = files
        self.loader = open_loader(files.data, files.tokenizer, files.feed, files.shape, files.seed)
        lines = read_metrics(files.run / ROWS_FILE)
        self._marks: dict[int, dict[str, Any]] = {line["step"]: line for line in lines if _is_mark(line)}

    @property
    def is_marked(self) -> bool:
        """Tell whether the run left marks that vouch for what is computed here."""
        return bool(self._marks)

    def find_batch(self, step: int, on_progress: Progress = ignore_progress) -> ReplayedBatch:
        """Recompute the batch of a step; steps count from 1.

        Raises:
            InputError: the run has no such step, or what is computed here is not what the run read.
        """
        total = self.files.manifest.total_steps
        if not 1 <= step <= total:
            raise InputError(f"no step {step}: the run in {self.files.run} has steps 1 to {total}")
        start = self._go_before(step)
        last = min((mark for mark in self._marks if mark >= step), default=step)
        found: KnownBatch | None = None
        for number in range(start + 1, last + 1):
            known = self.loader.take_known()
            self.check_batch(number, known.batch)
            found = known if number == step else found
            on_progress("replay", number - start, last - start)
        if found is None:
            raise AssertionError(f"step {step} is not after step {start}")
        return ReplayedBatch(step, found, is_checked=last in self._marks)

    def _go_before(self, step: int) -> int:
        """Set the loader to the nearest mark before `step`, else to the start; return the step that it stands after."""
        for number in sorted((mark for mark in self._marks if mark < step), reverse=True):
            state = self._marks[number]["loader"]
            # A mark that another version wrote, or a damaged one, is passed over; its hash still counts.
            with contextlib.suppress(InputError, KeyError, TypeError, ValueError):
                self.loader.set_state(state)
                return number
        self.loader.set_state(self.loader.first_state)
        return 0

    def check_batch(self, step: int, batch: Batch) -> None:
        """Compare the batch of a step with the run's mark, if there is one.

        Raises:
            InputError: it is another batch.
        """
        mark = self._marks.get(step)
        if mark is not None and mark["rows"] != hash_batch(batch):
            raise InputError(
                f"what is computed here is not what the run in {self.files.run} read at step {step}: another version "
                f"of codegemma (the run's: {self.files.manifest.codegemma_version}) or of a library spells rows "
                "otherwise. Use the versions of the run"
            )

    def close(self) -> None:
        """Stop the loader's thread."""
        self.loader.close()


def _is_mark(line: Mapping[str, Any]) -> bool:
    return type(line["step"]) is int and isinstance(line.get("rows"), str) and isinstance(line.get("loader"), dict)


@contextlib.contextmanager
def open_replay(run: Path | None, data: Path | None, tokenizer: Path | None = None) -> Iterator[Replay]:
    """Open a run for as long as the block lasts; see `find_run_files`.

    Raises:
        InputError: the run, its data or its tokenizer is not there, or they do not belong together.
    """
    replay = Replay(find_run_files(run, data, tokenizer))
    with contextlib.closing(replay):
        yield replay
