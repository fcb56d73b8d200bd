"""The training loop: checks first, then steps until the planned number, saved so that a kill costs minutes at most.

**In**: a `TrainJob`.
**Out**: `out/model`, a folder that others load; `run.json`, and what `journal.py` writes.
**Not**: where arrays lie (`placement.py`), who trains with whom (`hosts.py`), restarts (`supervisor.py`).

Killed at any moment and started again with the same job, it ends with the same parameters; on other devices or another
number of processes, with the same batches and the same curve up to rounding. Every process runs this very loop.
"""

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from codegemma.engine.completer import GeneratorCompleter
from codegemma.engine.engine import Engine
from codegemma.feed.loader import Loader, RowShape, hash_batch, open_loader
from codegemma.feed.mixture import Delivery, list_deliveries
from codegemma.files import write_whole
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import Params
from codegemma.recipe import to_plain
from codegemma.records import Batch
from codegemma.runner import Progress, ignore_progress
from codegemma.text.tokenizer import TOKENIZER_FILE
from codegemma.train.boards import Boards
from codegemma.train.checkpoint import Checkpoints
from codegemma.train.divergence import describe_divergence
from codegemma.train.guards import DivergedError, InterruptedRun, Notices, hold_folder, watch_signals
from codegemma.train.hosts import act_first, act_together, agree, is_leader
from codegemma.train.job import (
    TrainJob,
    check_epochs,
    check_job,
    describe_job,
    measure_job,
    plan_job,
    trace_lineage,
)
from codegemma.train.journal import METRICS_FILE, SAMPLES_FILE, Journal, SilentJournal
from codegemma.train.manifest import (
    MODEL_FOLDER,
    RUN_FILE,
    RunManifest,
    await_manifest,
    check_same_run,
    format_manifest,
    read_manifest,
    write_manifest,
)
from codegemma.train.memory import check_fits, explain_exhaustion
from codegemma.train.meters import Meters
from codegemma.train.objective import GROUP_METRICS, compute_held_loss
from codegemma.train.placement import count_devices, open_mesh, take_whole
from codegemma.train.start import load_reference, load_start, save_result
from codegemma.train.step import (
    TrainState,
    TrainStep,
    describe_state,
    describe_trained,
    join_params,
    make_train_step,
    start_state,
)
from codegemma.train.usage import describe_usage

__all__ = ["METRICS_FILE", "SAMPLES_FILE", "TrainResult", "ignore_line", "read_result", "train"]

# Of a model that is divided over devices, a sample needs a whole copy on one device, beside that device's part.
_MAX_SAMPLED_PARAMETERS = 2**28


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended. `final_loss` is the mean of the last line; `resumed_step` is `None` for a run in one go.

    `sources` are those of the mixture; without one there are none.
    """

    model: Path
    steps: int
    tokens: int
    seconds: float
    final_loss: float
    data_wait_share: float
    resumed_step: int | None
    sources: tuple[Delivery, ...] = ()


OnLine = Callable[[Mapping[str, int | float]], None]


def ignore_line(line: Mapping[str, int | float]) -> None:
    """Say nothing about a line of metrics."""


def train(job: TrainJob, on_progress: Progress = ignore_progress, on_line: OnLine = ignore_line) -> TrainResult:
    """Train until the planned number of steps, from the newest whole checkpoint if there is one.

    Raises:
        InputError: data, tokenizer or base cannot be used together, the mesh does not divide them, or they do not fit.
        OutputError: `out` cannot be written, holds another run, or is in use.
        ThreadChangeError: the run was started with another number of threads.
        DivergedError: loss or gradient were bad, and the choices say to stop, or it did not end.
        InterruptedRun: SIGINT or SIGTERM came to one of the processes; the run is saved.
        PeerError: another process failed.
    """
    started = time.perf_counter()
    config, mesh = act_together(lambda: _check(job))
    shape = RowShape(job.train.batch_rows, job.train.row_tokens)
    with contextlib.ExitStack() as stack:
        act_first(lambda: stack.enter_context(hold_folder(job.out)), lambda: None)
        notices = stack.enter_context(watch_signals())
        identity = act_together(lambda: describe_job(job, config))
        if agree((job.out / RUN_FILE).is_file())[0]:
            manifest = act_together(lambda: await_manifest(job.out))
            act_together(lambda: check_same_run(job.out, manifest, identity, job.train, count_devices(mesh)))
            if finished := _read_result(job.out, manifest):
                return finished
        loader = act_together(lambda: open_loader(job.data, job.tokenizer, job.feed, shape, job.train.seed))
        stack.enter_context(contextlib.closing(loader))
        if not agree((job.out / RUN_FILE).is_file())[0]:
            measured = measure_job(job, config, mesh)

            def begin() -> RunManifest:
                manifest = plan_job(job, identity, measured, mesh, started)
                check_epochs(loader, job.feed.mixture, manifest.total_steps)
                # What the run's rows are spelled with stays with the run, whatever becomes of a base.
                write_whole(job.out / TOKENIZER_FILE, job.tokenizer.to_json().encode())
                write_manifest(job.out, manifest)
                return manifest

            manifest = act_first(begin, lambda: await_manifest(job.out))
        stack.enter_context(explain_exhaustion(config, job.train, mesh))
        run = stack.enter_context(contextlib.closing(_Run(job, config, manifest, loader, mesh)))
        run.on_progress, run.on_line = on_progress, on_line
        run.resume()
        run.advance(notices)
        return run.finish()


def _check(job: TrainJob) -> tuple[GemmaConfig, Mesh | None]:
    """Refuse what cannot work before anything is written."""
    config = check_job(job)
    mesh = open_mesh(config, job.train)
    check_fits(config, job.train, mesh)
    return config, mesh


class _Run:
    """A run under way: its state, and the files it writes."""

    on_progress: Progress = staticmethod(ignore_progress)
    on_line: OnLine = staticmethod(ignore_line)

    def __init__(
        self, job: TrainJob, config: GemmaConfig, manifest: RunManifest, loader: Loader, mesh: Mesh | None
    ) -> None:
        self.job, self.config, self.manifest, self.loader, self.mesh = job, config, manifest, loader, mesh
        self.checkpoints = Checkpoints(job.out / "checkpoints", job.train.keep_checkpoints)
        self.step = 0
        self.has_compiled = False
        self.batch: Batch
        self.lineage = trace_lineage(job, config, manifest.identity)
        self.frozen: Params | None = None
        self.state: TrainState
        self.step_once: TrainStep
        self.meters = Meters()
        self.usage = describe_usage(config, job.train, count_devices(mesh))
        self.last_line: dict[str, int | float] = {}
        self.resumed_step: int | None = None
        self.journal: Journal = SilentJournal()

    def resume(self) -> None:
        """Go to the newest whole checkpoint, or to the start, and forget what was written after it."""
        choices, total = self.job.train, self.manifest.total_steps
        like = describe_state(describe_trained(self.config, choices.lora), self.config, choices, total, self.mesh)
        restored = self.checkpoints.restore(like)
        if restored is None or choices.lora.rank is not None:
            start = act_together(lambda: load_start(self.job.base, self.config, choices, self.mesh))
            self.frozen = start.frozen
        if restored is None:
            self.state = start_state(start.trained, self.config, choices, total, self.mesh)
        else:
            self.state, plain = restored
            self.step = self.resumed_step = int(plain["step"])
            self.loader.set_state(plain["loader"])
            self.meters = Meters(**plain["meters"])
            self.last_line = plain["last_line"]
        self.step_once = self.make_step(total)
        if is_leader():
            self.journal = Journal(self.job.out, self.step, self.open_boards())

    def make_step(self, total: int) -> TrainStep:
        """Compile the step, beside the model that the run is held to if there is one."""
        job = self.job
        if job.held_to is None:
            return make_train_step(self.config, job.train, total, self.mesh, self.frozen)
        place = job.held_to
        reference = act_together(lambda: load_reference(place, self.config, self.mesh))
        objective = partial(compute_held_loss, hold=job.hold)
        return make_train_step(self.config, job.train, total, self.mesh, self.frozen, objective, reference)

    def open_boards(self) -> Boards:
        """Open where the run is shown besides its own files."""
        about = {"identity": self.manifest.identity, "recipe": self.manifest.recipe}
        return Boards(self.job.out, self.step, self.job.train.wandb_project, about, self.manifest.fingerprint)

    def advance(self, notices: Notices) -> None:
        """Take the remaining steps; save when due, and when one of the processes was asked to stop."""
        choices, total = self.job.train, self.manifest.total_steps
        saved_at = time.monotonic()
        while self.step < total:
            is_late = is_leader() and time.monotonic() - saved_at > choices.save_every_s
            is_interrupted, is_ordered, is_late = agree(*notices.read(self.step), is_late)
            if is_interrupted or is_ordered:
                self.save(is_last=True)
                raise InterruptedRun(self.step, total, is_order=is_ordered and not is_interrupted)
            if is_late or (self.step and self.step % choices.save_every_steps == 0):
                self.save()
                saved_at = time.monotonic()
            metrics = self.take_step()
            if self.step % choices.log_every_steps == 0 or self.step == total:
                self.write_line(metrics)
                self.journal.mark_rows(self.step, self.batch, self.loader)
            if self.step % choices.sample_every_steps == 0 or self.step == total:
                self.write_sample()
            self.on_progress("train", self.step, total)
        self.save()

    def take_step(self) -> dict[str, float]:
        """Fetch a batch, change the state, look at what came of it."""
        start = time.perf_counter()
        known = self.loader.take_known()
        batch = self.batch = known.batch
        wait_s = time.perf_counter() - start
        self.state, metrics = self.step_once(self.state, batch)
        self.step += 1
        taken = jax.device_get(metrics)
        groups = [taken.pop(name, ()) for name in GROUP_METRICS]
        values = {name: float(value) for name, value in taken.items()}
        is_bad = values["bad_in_a_row"] > 0
        if is_bad:
            self.meet_bad_step(values)
        tokens, seconds = self.loader.count_tokens(known), time.perf_counter() - start
        self.meters.add(values, tokens, seconds, wait_s, has_compiled=not self.has_compiled, is_bad=is_bad)
        if batch.groups is not None and not is_bad:
            self.meters.add_groups(*(group.tolist() for group in groups))
        self.has_compiled = True
        return values

    def meet_bad_step(self, values: Mapping[str, float]) -> None:
        """Tell of a step that changed nothing, and stop where the choices say so."""
        self.journal.tell_bad_step(self.step, values, self.batch, self.loader)
        choices = self.job.train
        if choices.on_divergence == "skip" and values["bad_in_a_row"] < choices.max_bad_steps:
            return
        raise DivergedError(describe_divergence(self.step, values, choices, self.job.out, hash_batch(self.batch)))

    def write_line(self, metrics: Mapping[str, float]) -> None:
        """Tell the averages since the last line, unless every step since then was bad."""
        if self.meters.steps:
            line = self.meters.take_line(self.step, metrics, self.loader.epoch)
            self.last_line = line | self.usage.describe(line["tokens_per_s"])
            self.journal.write_line(self.last_line)
            self.on_line(self.last_line)

    def write_sample(self) -> None:
        """Complete the fixed request, greedily."""
        if self.job.sample is None:
            return
        trained, frozen = self.state.params, self.frozen
        if self.mesh is not None:
            if self.config.count_parameters() > _MAX_SAMPLED_PARAMETERS:
                return
            trained, frozen = take_whole((trained, frozen), is_wanted=is_leader())
        if is_leader():
            params = join_params(trained, frozen, self.job.train)
            # No more pages than one answer needs: training has the memory.
            engine = Engine(params, self.config, self.job.tokenizer, rows=1, cache_tokens=0)
            self.journal.write_sample(self.step, GeneratorCompleter(engine).complete_all([self.job.sample])[0])

    def save(self, *, is_last: bool = False) -> None:
        """Save everything that the next step depends on, and what the next line is averaged from."""
        plain = {
            "step": self.step,
            "loader": self.loader.get_state(),
            "meters": dataclasses.asdict(self.meters),
            "last_line": self.last_line,
        }
        self.checkpoints.save(self.step, self.state, plain)
        act_first(lambda: self.job.on_saved(is_last), lambda: None)

    def finish(self) -> TrainResult:
        """Write the model folder; its `run.json` says how the run ended."""
        folder = self.job.out / MODEL_FOLDER
        trained = self.state.params if self.mesh is None else take_whole(self.state.params, is_wanted=is_leader())
        result: dict[str, Any] = {
            "steps": self.step,
            "tokens": self.meters.tokens,
            "seconds": round(self.meters.seconds, 3),
            "final_loss": self.last_line.get("loss", math.nan),
            "data_wait_share": self.meters.wait_share,
        }
        sources = list_deliveries(self.loader.sources, self.meters.tokens_by_source, self.loader.epochs)
        if sources:
            result["sources"] = to_plain(sources)
        about = json.loads(format_manifest(self.manifest)) | {"result": result}
        files = {
            TOKENIZER_FILE: self.job.tokenizer.to_json().encode(),
            RUN_FILE: (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode(),
        }
        base, choices = self.job.base, self.job.train

        def write() -> None:
            save_result(folder, base, self.config, choices, trained, lineage=self.lineage, files=files)
            self.job.on_saved(True)

        act_first(write, lambda: None)
        return _make_result(folder, result, self.resumed_step)

    def close(self) -> None:
        """Close what is open."""
        self.checkpoints.close()
        self.journal.close()


def read_result(out: Path) -> TrainResult | None:
    """Tell how the run in a folder ended, if it has."""
    manifest = read_manifest(out)
    return None if manifest is None else _read_result(out, manifest)


def _read_result(out: Path, manifest: RunManifest) -> TrainResult | None:
    try:
        about = json.loads((out / MODEL_FOLDER / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if about.get("fingerprint") != manifest.fingerprint:
        return None
    return _make_result(out / MODEL_FOLDER, about["result"], manifest.total_steps)


def _make_result(model: Path, plain: Mapping[str, Any], resumed_step: int | None) -> TrainResult:
    sources = tuple(Delivery(**source) for source in plain.get("sources", ()))
    return TrainResult(model, **{**plain, "sources": sources}, resumed_step=resumed_step)
