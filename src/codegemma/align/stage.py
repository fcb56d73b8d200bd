"""The loop of a stage after instruction tuning: rows from a source, steps, checkpoints; killed, it goes on.

**In**: a `Stage`: a base, choices, an objective; a `Source` of rows, which may ask the policy for answers.
**Out**: `out/model`, `stage.json` and `metrics.jsonl`.
**Not**: instruction tuning, which is training (`train/loop.py`). State, step, mesh, adapters and checkpoints are those
of training.
"""

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax

from codegemma.files import write_whole
from codegemma.folders import hold_folder
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import Params
from codegemma.model.infill_modes import RUN_FILE, read_infill_modes
from codegemma.model.lineage import read_lineage
from codegemma.model.weights import describe_model
from codegemma.recipe import fingerprint, to_plain
from codegemma.runner import Progress, ignore_progress
from codegemma.text.tokenizer import TOKENIZER_FILE, Tokenizer
from codegemma.train.checkpoint import Checkpoints
from codegemma.train.choices import TrainChoices
from codegemma.train.guards import DivergedError, InterruptedRun, watch_signals
from codegemma.train.job import hash_model
from codegemma.train.manifest import MODEL_FOLDER, check_same_choices, describe_identity
from codegemma.train.meters import LineFile
from codegemma.train.placement import open_mesh, take_whole
from codegemma.train.start import load_reference, load_start, save_result
from codegemma.train.step import Objective, describe_state, describe_trained, join_params, make_train_step, start_state

STAGE_FILE = "stage.json"
METRICS_FILE = "metrics.jsonl"


class Taken(NamedTuple):
    """What a source gives for a step: rows, or none where nothing can be learned; figures; what it cost."""

    rows: Any | None
    told: dict[str, float]
    flops: float


class Source(Protocol):
    """Where a stage's rows come from."""

    def take(self, step: int, params: Params) -> Taken:
        """Give what step number `step`, from 0, reads; `params` are the policy's as they are now."""
        ...

    def get_state(self) -> dict[str, Any]:
        """Tell, as plain data, where the source is."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to where `get_state` was told."""
        ...


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: what it starts from, where it goes, how it learns; `about` is all else that decides its result.

    `held_to` is the model that the objective holds rehearsed code to, where it does.
    """

    name: str
    base: Path
    out: Path
    train: TrainChoices
    objective: Objective
    about: Mapping[str, Any]
    held_to: Path | None = None


@dataclass(frozen=True, slots=True)
class StageResult:
    """How a stage ended; `flops` count what it learned, wrote and rated, so that stages can be compared."""

    model: Path
    steps: int
    seconds: float
    flops: float
    resumed_step: int | None = None


@dataclass(slots=True)
class _Totals:
    seconds: float = 0.0
    flops: float = 0.0


def run_stage(
    stage: Stage,
    make_source: Callable[[Params, GemmaConfig], Source],
    on_progress: Progress = ignore_progress,
) -> StageResult:
    """Take the stage's steps, from the newest checkpoint if there is one; a finished stage is told at once.

    `make_source` is handed the parameters at the stage's start, which stay as they are: the reference.

    Raises:
        OutputError: `out` cannot be written, holds another stage, or is in use.
        DivergedError: loss or gradient were no numbers several steps in a row.
        InterruptedRun: SIGINT or SIGTERM came; the stage is saved.
    """
    config = describe_model(stage.base)
    identity = _describe(stage)
    with contextlib.ExitStack() as stack:
        stack.enter_context(hold_folder(stage.out))
        file = stage.out / STAGE_FILE
        if file.is_file():
            known = json.loads(file.read_text(encoding="utf-8"))
            check_same_choices(stage.out, known["identity"], identity)
            if known["result"] is not None:
                return StageResult(stage.out / MODEL_FOLDER, **known["result"])
        else:
            write_whole(file, _spell(identity, None))
        notices = stack.enter_context(watch_signals())
        result = _Run(stage, config, make_source, stack).go(notices.read, on_progress)
        write_whole(file, _spell(identity, result))
        return result


def _describe(stage: Stage) -> dict[str, Any]:
    held = {} if stage.held_to is None else {"held_to": hash_model(stage.held_to)}
    return describe_identity(stage.train, None, stage=stage.name, base=hash_model(stage.base), **held, **stage.about)


def _spell(identity: Mapping[str, Any], result: StageResult | None) -> bytes:
    told = None if result is None else {k: v for k, v in to_plain(result).items() if k not in ("model", "resumed_step")}
    return (json.dumps({"identity": identity, "result": told}, indent=1) + "\n").encode()


class _Run:
    def __init__(
        self,
        stage: Stage,
        config: GemmaConfig,
        make_source: Callable[[Params, GemmaConfig], Source],
        stack: contextlib.ExitStack,
    ) -> None:
        self.stage, self.config, choices = stage, config, stage.train
        self.total = choices.steps or 1
        self.mesh = open_mesh(config, choices)
        self.checkpoints = stack.enter_context(contextlib.closing(Checkpoints(stage.out / "checkpoints", 1)))
        start = load_start(stage.base, config, choices, self.mesh)
        self.frozen = start.frozen
        # The state's own arrays are copies: these stay what they are.
        self.source = make_source(self._join(start.trained), config)
        stack.callback(getattr(self.source, "close", lambda: None))
        like = describe_state(describe_trained(config, choices.lora), config, choices, self.total, self.mesh)
        restored = self.checkpoints.restore(like)
        self.step, self.totals, self.resumed = 0, _Totals(), None
        if restored is None:
            self.state = start_state(start.trained, config, choices, self.total, self.mesh)
        else:
            self.state, plain = restored
            self.step = self.resumed = int(plain["step"])
            self.totals = _Totals(**plain["totals"])
            self.source.set_state(plain["source"])
        reference = None if stage.held_to is None else load_reference(stage.held_to, config, self.mesh)
        self.take_step = make_train_step(
            config, choices, self.total, self.mesh, self.frozen, stage.objective, reference
        )
        self.lines = LineFile(stage.out / METRICS_FILE, self.step)

    def _join(self, trained: Params) -> Params:
        params = join_params(trained, self.frozen, self.stage.train)
        return params if self.mesh is None else take_whole(params)

    def go(self, read_signals: Callable[[int], tuple[bool, bool]], on_progress: Progress) -> StageResult:
        saved_at, choices = time.monotonic(), self.stage.train
        while self.step < self.total:
            is_asked, is_ordered = read_signals(self.step)
            if is_asked or is_ordered:
                self.save()
                raise InterruptedRun(self.step, self.total, is_order=is_ordered and not is_asked)
            if time.monotonic() - saved_at > choices.save_every_s or (
                self.step and self.step % choices.save_every_steps == 0
            ):
                self.save()
                saved_at = time.monotonic()
            self.advance()
            on_progress(self.stage.name, self.step, self.total)
        self.save()
        return self.finish()

    def advance(self) -> None:
        began = time.perf_counter()
        taken = self.source.take(self.step, self._join(self.state.params))
        self.step += 1
        line: dict[str, float] = dict(taken.told)
        if taken.rows is not None:
            started = time.perf_counter()
            self.state, metrics = self.take_step(self.state, taken.rows)
            line |= {name: float(value) for name, value in jax.device_get(metrics).items() if value.ndim == 0}
            line["update_s"] = time.perf_counter() - started
            if line["bad_in_a_row"] >= self.stage.train.max_bad_steps:
                raise DivergedError(
                    f"{self.stage.name}: loss {line['loss']:g} and gradient norm {line['gradient_norm']:g} at step "
                    f"{self.step}, the last {line['bad_in_a_row']:.0f} steps changed nothing; start anew in another "
                    "--out with a lower train.peak_learning_rate of this stage"
                )
        self.totals.seconds += time.perf_counter() - began
        self.totals.flops += taken.flops
        line = {name: value for name, value in line.items() if math.isfinite(value)}
        self.lines.append({"step": self.step, **line, "seconds": self.totals.seconds, "flops": self.totals.flops})

    def save(self) -> None:
        plain = {"step": self.step, "totals": dataclasses.asdict(self.totals), "source": self.source.get_state()}
        self.checkpoints.save(self.step, self.state, plain)

    def finish(self) -> StageResult:
        stage, folder = self.stage, self.stage.out / MODEL_FOLDER
        trained = self.state.params if self.mesh is None else take_whole(self.state.params)
        identity = _describe(stage)
        lineage = read_lineage(stage.base, self.config).extend(
            stage.name, base=identity["base"], run=fingerprint(identity)
        )
        modes = [str(mode) for mode in read_infill_modes(stage.base)]
        files = {
            TOKENIZER_FILE: Tokenizer.load(stage.base).to_json().encode(),
            RUN_FILE: json.dumps({"infill_modes": modes, "stage": identity}, indent=1).encode(),
        }
        save_result(folder, stage.base, self.config, stage.train, trained, lineage=lineage, files=files)
        return StageResult(folder, self.step, self.totals.seconds, self.totals.flops, self.resumed)
