"""The training loop: checks first, then steps until the planned number, saved so that a kill costs minutes at most.

**In**: a `TrainJob`.
**Out**: `out/model`, a folder that others load; `run.json`, `metrics.jsonl`, `samples.jsonl`, `rows.jsonl` and more.
**Not**: several hosts. Killed at any moment and started again with the same job, it ends with the same parameters.
"""

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from codegemma.engine.engine import Engine
from codegemma.feed.loader import Loader, RowShape, open_loader
from codegemma.feed.mixture import Delivery, list_deliveries
from codegemma.files import write_whole
from codegemma.model.config import GemmaConfig
from codegemma.recipe import to_plain
from codegemma.records import Batch
from codegemma.runner import Progress, ignore_progress
from codegemma.text.tokenizer import TOKENIZER_FILE
from codegemma.train.checkpoint import Checkpoints
from codegemma.train.guards import DivergedError, InterruptedRun, hold_folder, watch_signals
from codegemma.train.job import (
    TrainJob,
    check_epochs,
    check_job,
    describe_job,
    plan_job,
    trace_lineage,
)
from codegemma.train.manifest import (
    MODEL_FOLDER,
    RUN_FILE,
    RunManifest,
    check_same_run,
    format_manifest,
    read_manifest,
    write_manifest,
)
from codegemma.train.meters import LineFile, Meters
from codegemma.train.replay import ROWS_FILE, mark_rows
from codegemma.train.start import load_start, save_result
from codegemma.train.step import TrainState, init_state, join_params, make_train_step

METRICS_FILE = "metrics.jsonl"
SAMPLES_FILE = "samples.jsonl"


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
    """Train until the planned number of steps, from the newest checkpoint if there is one.

    Raises:
        InputError: data, tokenizer or base cannot be used together.
        OutputError: `out` cannot be written, holds another run, or is in use.
        ThreadChangeError: the run was started with another number of threads.
        DivergedError: the loss became infinite or no number.
        InterruptedRun: SIGINT or SIGTERM came; the run is saved.
    """
    started = time.perf_counter()
    config = check_job(job)
    shape = RowShape(job.train.batch_rows, job.train.row_tokens)
    with hold_folder(job.out), watch_signals() as was_asked_to_stop:
        identity = describe_job(job, config)
        manifest = read_manifest(job.out)
        if manifest is not None:
            check_same_run(job.out, manifest, identity, job.train)
            if finished := _read_result(job.out, manifest):
                return finished
        with contextlib.closing(open_loader(job.data, job.tokenizer, job.feed, shape, job.train.seed)) as loader:
            if manifest is None:
                manifest = plan_job(job, config, identity, started)
                check_epochs(loader, job.feed.mixture, manifest.total_steps)
                # What the run's rows are spelled with stays with the run, whatever becomes of a base.
                write_whole(job.out / TOKENIZER_FILE, job.tokenizer.to_json().encode())
                write_manifest(job.out, manifest)
            run = _Run(job, config, manifest, loader, on_progress, on_line)
            with contextlib.closing(run):
                run.resume()
                run.advance(was_asked_to_stop)
                return run.finish()


class _Run:
    """A run under way: its state, and the files it writes."""

    def __init__(
        self,
        job: TrainJob,
        config: GemmaConfig,
        manifest: RunManifest,
        loader: Loader,
        on_progress: Progress,
        on_line: OnLine,
    ) -> None:
        self.job, self.config, self.manifest, self.loader = job, config, manifest, loader
        self.on_progress, self.on_line = on_progress, on_line
        self.checkpoints = Checkpoints(job.out / "checkpoints", job.train.keep_checkpoints)
        start = load_start(job.base, config, job.train)
        self.frozen = start.frozen
        self.step_once = make_train_step(config, job.train, manifest.total_steps, frozen=start.frozen)
        self.step = 0
        self.has_compiled = False
        self.batch: Batch
        self.lineage = trace_lineage(job, config, manifest.identity)
        self.state: TrainState = init_state(start.trained, job.train, manifest.total_steps)
        self.meters = Meters()
        self.last_line: dict[str, int | float] = {}
        self.resumed_step: int | None = None

    def resume(self) -> None:
        """Go to the newest checkpoint, if there is one, and forget what was written after it."""
        restored = self.checkpoints.restore(self.state)
        if restored is not None:
            self.state, plain = restored
            self.step = self.resumed_step = int(plain["step"])
            self.loader.set_state(plain["loader"])
            self.meters = Meters(**plain["meters"])
            self.last_line = plain["last_line"]
        self.lines = LineFile(self.job.out / METRICS_FILE, self.step)
        self.samples = LineFile(self.job.out / SAMPLES_FILE, self.step)
        self.rows = LineFile(self.job.out / ROWS_FILE, self.step)
        self.board = _open_board(self.job.out / "tensorboard", self.step)

    def advance(self, was_asked_to_stop: Callable[[], bool]) -> None:
        """Take the remaining steps; save when due, and when asked to stop."""
        choices, total = self.job.train, self.manifest.total_steps
        saved_at = time.monotonic()
        while self.step < total:
            if was_asked_to_stop():
                self.save()
                raise InterruptedRun(
                    f"interrupted and saved at step {self.step} of {total}; the same command goes on from there"
                )
            metrics = self.take_step()
            if self.step % choices.log_every_steps == 0 or self.step == total:
                self.write_line(metrics)
                self.rows.append(mark_rows(self.step, self.batch, self.loader))
            if self.step % choices.sample_every_steps == 0 or self.step == total:
                self.write_sample()
            is_due = self.step % choices.save_every_steps == 0 or time.monotonic() - saved_at > choices.save_every_s
            if is_due or self.step == total:
                self.save()
                saved_at = time.monotonic()
            self.on_progress("train", self.step, total)

    def take_step(self) -> dict[str, float]:
        """Fetch a batch, change the state, check the loss."""
        start = time.perf_counter()
        known = self.loader.take_known()
        batch = self.batch = known.batch
        wait_s = time.perf_counter() - start
        self.state, metrics = self.step_once(self.state, batch)
        self.step += 1
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
            raise DivergedError(
                f"the loss is {values['loss']} and the gradient's norm {values['gradient_norm']} at step {self.step}: "
                f"the run diverged. The checkpoint of step {self.checkpoints.latest_step or 0} is kept. Start anew in "
                f"another --out with a lower train.peak_learning_rate (now {self.job.train.peak_learning_rate:g}) or "
                f"more train.warmup_steps (now {self.job.train.warmup_steps})"
            )
        tokens, seconds = self.loader.count_tokens(known), time.perf_counter() - start
        self.meters.add(values, tokens, seconds, wait_s, has_compiled=not self.has_compiled)
        self.has_compiled = True
        return values

    def write_line(self, metrics: Mapping[str, float]) -> None:
        """Tell the averages since the last line."""
        self.last_line = self.meters.take_line(self.step, metrics, self.loader.epoch)
        self.lines.append(self.last_line)
        for name, value in self.last_line.items():
            self.board.add_scalar(name, value, self.step)
        self.on_line(self.last_line)

    def write_sample(self) -> None:
        """Complete the fixed request, greedily."""
        if self.job.sample is None:
            return
        params = join_params(self.state.params, self.frozen, self.job.train)
        engine = Engine(params, self.config, self.job.tokenizer)
        completion = engine.complete_all([self.job.sample])[0]
        line = {"step": self.step, "text": completion.text, "stop_reason": completion.stop_reason.value}
        self.samples.append(line)
        self.board.add_text("sample", f"```\n{completion.text}\n```", self.step)

    def save(self) -> None:
        """Save everything that the next step depends on, and what the next line is averaged from."""
        plain = {
            "step": self.step,
            "loader": self.loader.get_state(),
            "meters": dataclasses.asdict(self.meters),
            "last_line": self.last_line,
        }
        self.checkpoints.save(self.step, self.state, plain)

    def finish(self) -> TrainResult:
        """Write the model folder; its `run.json` says how the run ended."""
        folder = self.job.out / MODEL_FOLDER
        result: dict[str, Any] = {
            "steps": self.step,
            "tokens": self.meters.tokens,
            "seconds": round(self.meters.seconds, 3),
            "final_loss": self.last_line["loss"],
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
        base, trained = self.job.base, self.state.params
        save_result(folder, base, self.config, self.job.train, trained, lineage=self.lineage, files=files)
        return _make_result(folder, result, self.resumed_step)

    def close(self) -> None:
        """Close what is open."""
        self.checkpoints.close()
        if hasattr(self, "board"):
            self.board.close()


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


def _open_board(folder: Path, restored_step: int) -> Any:
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(folder), purge_step=restored_step + 1 if restored_step else None)
