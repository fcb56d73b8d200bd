"""What a run is made of, checked and planned before the first step.

**In**: `TrainJob`: packs, choices, a tokenizer, a shape to start fresh from or a base model.
**Out**: its manifest, with the number of steps fixed, and where its model comes from.
**Not**: steps.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import xxhash
from jax.sharding import Mesh

from codegemma.errors import InputError
from codegemma.feed.choices import FeedChoices, FeedError, describe_feed
from codegemma.feed.loader import Loader
from codegemma.feed.mixture import MixtureChoices
from codegemma.files import write_whole
from codegemma.folders import claim_folder
from codegemma.model.config import GemmaConfig
from codegemma.model.lineage import Lineage, read_lineage
from codegemma.model.weights import describe_model, list_model_files, locate_tokenizer
from codegemma.recipe import fingerprint
from codegemma.records import InfillMode, Pack, Request
from codegemma.shards import find_format, find_output, hash_files, list_parts, read_records
from codegemma.text.tokenizer import TOKENIZER_FILE, Tokenizer, train_tokenizer
from codegemma.train.choices import TrainChoices
from codegemma.train.manifest import RUN_FILE, RunManifest, count_threads, describe_identity
from codegemma.train.placement import count_devices
from codegemma.train.plan import Throughput, check_length, describe_device, fix_total_steps, measure_throughput
from codegemma.train.provenance import read_filters
from codegemma.train.start import find_root


def ignore_saved(is_last: bool) -> None:
    """Do nothing with what was saved."""


@dataclass(frozen=True, slots=True)
class TrainJob:
    """Everything that decides a run, and where it goes.

    `data` is a folder with `packs-train.parquet`, or that file. With `base`, a model folder, the model's shape is the
    base's and `config` may be `None`; without, it is `config` with the window that the rows teach. `minutes` goes
    before `train.steps`. `sample` is completed again and again during the run. `recipe` is plain data that is kept in
    `run.json`. `on_saved` is called, by the leader of several processes, when a checkpoint is whole (`False`) and when
    the process is about to end (`True`), for `out` may be a copy of what stands elsewhere. With `held_to`, a model,
    conversations alone are learned: all else is held where that model has it, as strongly as `hold` says
    (`objective.compute_held_loss`).
    """

    data: Path
    out: Path
    train: TrainChoices
    feed: FeedChoices
    tokenizer: Tokenizer
    config: GemmaConfig | None = None
    base: Path | None = None
    minutes: float | None = None
    sample: Request | None = None
    held_to: Path | None = None
    hold: float = 1.0
    recipe: Mapping[str, Any] = field(default_factory=dict)
    on_saved: Callable[[bool], None] = ignore_saved

    def choose_shape(self) -> GemmaConfig:
        """Tell the model's shape: the base's, or the chosen one with the window that the rows teach it."""
        if self.base is not None:
            return describe_model(self.base)
        if self.config is None:
            raise InputError("a run needs a base model or the shape of a fresh one; neither is given")
        return dataclasses.replace(
            self.config, vocab_size=self.tokenizer.vocab_size, max_positions=self.train.window_tokens
        )


def choose_tokenizer(data: Path, out: Path, base: Path | None, vocab_size: int) -> Tokenizer:
    """Take the base's tokenizer; without a base, train one on the training files, once, and keep it in `out`."""
    if base is not None:
        return Tokenizer.load(locate_tokenizer(base))
    file = out / TOKENIZER_FILE
    # Before its run has begun, a tokenizer may be that of another job which got no further.
    if not file.is_file() or not (out / RUN_FILE).is_file():
        packs = read_records(locate_packs(data), Pack)
        claim_folder(out)
        tokenizer = train_tokenizer((f.text for pack in packs for f in pack.files), vocab_size)
        write_whole(file, tokenizer.to_json().encode())
    return Tokenizer.load(file)


def choose_sample(data: Path, modes: Sequence[InfillMode]) -> Request | None:
    """Take a cursor in a held-out file, to watch what the model makes of it in the first mode that it learns."""
    mode = modes[0] if modes else InfillMode.PSM
    heldout = find_format(data / "packs-heldout.parquet")
    for pack in read_records(heldout, Pack) if heldout.exists() else ():
        for file in pack.files:
            cursor = file.text.find("(", len(file.text) // 2) + 1
            if cursor:
                return Request(file.text[:cursor], file.text[cursor:], file.path, mode=mode, max_new_tokens=32)
    return None


def check_job(job: TrainJob) -> GemmaConfig:
    """Refuse what cannot work before anything is written."""
    check_length(job.train, job.minutes)
    if job.train.lora.rank is not None and job.base is None:
        raise InputError("adapters hang on a base, and none is given: name one, or set train.lora.rank=none")
    config = job.choose_shape()
    if job.tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"the tokenizer has {job.tokenizer.vocab_size} ids, the base {config.vocab_size}: "
            "use the tokenizer.json of the base"
        )
    if job.train.window_tokens > config.max_positions:
        raise InputError(
            f"rows for a window of {job.train.window_tokens} tokens are too long for the base's window of "
            f"{config.max_positions}: --set train.row_tokens={config.max_positions + job.train.margin_tokens}"
        )
    return config


def describe_job(job: TrainJob, config: GemmaConfig) -> dict[str, Any]:
    """Gather what decides the run's result, files by their content."""
    return describe_identity(
        job.train,
        job.minutes,
        feed=describe_feed(job.feed),
        model=config,
        data=hash_files(list_parts(locate_packs(job.data))),
        tokenizer=hash_tokenizer(job.tokenizer),
        base=None if job.base is None else hash_model(job.base),
        **({} if job.held_to is None else {"held_to": hash_model(job.held_to), "hold": job.hold}),
    )


def measure_job(job: TrainJob, config: GemmaConfig, mesh: Mesh | None) -> Throughput | None:
    """Measure what a step costs, if minutes decide how many there are."""
    return measure_throughput(config, job.train, mesh) if job.minutes is not None else None


def plan_job(
    job: TrainJob, identity: dict[str, Any], measured: Throughput | None, mesh: Mesh | None, started: float
) -> RunManifest:
    """Fix the number of steps, by what was measured if minutes are given."""
    if measured is not None and job.minutes is not None:
        steps = fix_total_steps(job.minutes, measured, time.perf_counter() - started)
    else:
        steps = job.train.steps or 1
    return RunManifest(
        identity=identity,
        total_steps=steps,
        seconds_per_step=None if measured is None else measured.seconds_per_step,
        threads=count_threads(),
        xla_flags=os.environ.get("XLA_FLAGS", ""),
        device=describe_device(),
        jax_version=jax.__version__,
        infill_modes=job.feed.infill_modes,
        recipe=dict(job.recipe),
        devices=count_devices(mesh),
    )


def check_epochs(loader: Loader, mixture: MixtureChoices, steps: int) -> None:
    """Refuse a run that would go through a source more often than its choices allow.

    Raises:
        FeedError: the message says which source, and how often.
    """
    if mixture.max_epochs is None:
        return
    epochs = loader.estimate_epochs(steps * loader.shape.rows * loader.shape.row_tokens)
    for source, count in zip(loader.sources, epochs, strict=True):
        if count > mixture.max_epochs:
            raise FeedError(
                f"{steps:,} steps would go {count:.1f} times through {source.name}, at most {mixture.max_epochs:g} are "
                "wanted: give more data of it, lower its share or the number of steps, or raise feed.mixture.max_epochs"
            )


def trace_lineage(job: TrainJob, config: GemmaConfig, identity: Mapping[str, Any]) -> Lineage:
    """Tell where the job's model will come from: what its base came from, then this run.

    Raises:
        InputError: the base's lineage is damaged.
    """
    start = Lineage(None) if job.base is None else read_lineage(job.base, config)
    filters = read_filters(job.data)
    return start.extend(
        "train",
        base=identity["base"],
        data=identity["data"],
        corpus=None if filters is None else filters.corpus_fingerprint,
        packs=None if filters is None else filters.packs_fingerprint,
        recipe=job.recipe.get("name"),
        run=fingerprint(identity),
        **_describe_adapter(job, identity),
    )


def _describe_adapter(job: TrainJob, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Tell which base an adapter belongs to: the frozen one, where the run went on with an adapter."""
    if job.train.lora.rank is None or job.base is None:
        return {}
    root = find_root(job.base)
    return {
        "adapter": identity["train"]["lora"],
        "adapter_of": identity["base"] if root == job.base else hash_model(root),
    }


def hash_model(place: Path) -> str:
    """Hash a model's shape and weights, in the format that it is in.

    Raises:
        InputError: one of its files cannot be read.
    """
    return hash_files(list_model_files(place))


def locate_packs(data: Path) -> Path:
    """Name the training packs, a file or a folder of parts: `data` itself, or what is in that folder."""
    return find_output(data, "packs-train.parquet")


def hash_tokenizer(tokenizer: Tokenizer) -> str:
    """Hash what a tokenizer does to text."""
    return xxhash.xxh3_64_hexdigest(tokenizer.to_json().encode())
