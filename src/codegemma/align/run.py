"""The sequence of tuning: instruction tuning, preferences, rewards from tests; each stage beside its control.

**In**: `AlignJob`: a base, choices, conversations or none, packs of code or none.
**Out**: `AlignResult`; `out/model`, and a folder for each stage, from which a killed job goes on.
**Not**: what a stage does: training is `train/loop.py`, the others `stage.py`.

The control of a stage is the model before it, instruction-tuned further on the same demonstrations until as many
operations were spent as the stage spent, its answers and ratings included.
"""

import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from codegemma.align.averaging import average_run
from codegemma.align.chats import ChatCount, make_pack, pack_chats, read_chats
from codegemma.align.choices import AlignChoices
from codegemma.align.exercises import Problem, make_problems
from codegemma.align.given import GivenCount, read_given
from codegemma.align.measure import (
    Gain,
    ProblemResult,
    compare_solved,
    fill_holes,
    keep,
    read_heldout,
    read_package,
    solve_problems,
)
from codegemma.align.objective import JudgeRows, judge_pairs, judge_policy, make_objective
from codegemma.align.policy import PolicySource, Rescore, take_rewards
from codegemma.align.preference import (
    PAIRS_FILE,
    PairSource,
    Preference,
    choose_best,
    load_pairs,
    pick_pairs,
    rate_reference,
    sample_answers,
    store_pairs,
)
from codegemma.align.rehearsal import Rehearsal
from codegemma.align.reward_head import read_states, train_head
from codegemma.align.rewards import Judge, Judged
from codegemma.align.stage import Stage, StageResult, run_stage
from codegemma.align.writing import Writer, Written
from codegemma.engine.rollout import Writing
from codegemma.errors import InputError
from codegemma.evals.heldout_suite import HELDOUT_FILE
from codegemma.evals.scoring import HoleResult
from codegemma.feed.choices import FeedChoices
from codegemma.feed.loader import RowShape
from codegemma.feed.mixture import MixtureChoices
from codegemma.folders import hold_folder
from codegemma.model.config import GemmaConfig
from codegemma.model.gemma import Params
from codegemma.model.weights import describe_model, load_model
from codegemma.recipe import fingerprint
from codegemma.records import Pack, SourceKind, Split
from codegemma.runner import Progress, ignore_progress
from codegemma.sandbox.calls import Caller
from codegemma.shards import find_output, read_records, write_records
from codegemma.synthesis.problem_file import read_problem_file, spell_value
from codegemma.text.chat_format import Turn
from codegemma.text.tokenizer import Tokenizer
from codegemma.train.choices import TrainChoices
from codegemma.train.job import TrainJob, hash_model
from codegemma.train.loop import OnLine, ignore_line, train
from codegemma.train.step import Objective

MODEL_FOLDER = "model"
_SFT_DATA = "sft-data"
_GIVEN_FILE = "given-problems.json"


@dataclass(frozen=True, slots=True)
class AlignJob:
    """What to tune, on what, by which choices.

    `data` is what `codegemma build` wrote: its training side is rehearsed, its held-out side shows what infilling
    lost; without it nothing is. `elsewhere` is the folder of a package that is not rehearsed: what it lost there.
    `chats` are conversations to tune on beside the exercises' demonstrations, `problems` files of problems with tests
    to learn from beside the exercises.
    """

    base: Path
    out: Path
    choices: AlignChoices
    feed: FeedChoices
    data: Path | None = None
    chats: tuple[Path, ...] = ()
    problems: tuple[Path, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    elsewhere: Path | None = None


@dataclass(slots=True)
class AlignResult:
    """What became of a job: stages by name, problems solved and holes filled by model, and differences.

    `filled_elsewhere` are the holes of code that was not rehearsed.
    """

    model: Path
    stages: dict[str, StageResult] = field(default_factory=dict)
    solved: dict[str, list[ProblemResult]] = field(default_factory=dict)
    filled: dict[str, list[HoleResult]] = field(default_factory=dict)
    filled_elsewhere: dict[str, list[HoleResult]] = field(default_factory=dict)
    gains: list[Gain] = field(default_factory=list)
    chats: ChatCount = field(default_factory=ChatCount)
    problems: tuple[int, int] = (0, 0)
    given: GivenCount = field(default_factory=GivenCount)


def align(
    job: AlignJob, caller: Caller, on_progress: Progress = ignore_progress, on_line: OnLine = ignore_line
) -> AlignResult:
    """Run the stages that were chosen; those that are done already are told at once.

    Raises:
        InputError: base, data and choices do not go together; nothing to tune on.
        OutputError: `out` cannot be written, or holds another job's stages.
        InterruptedRun: a signal came; what runs is saved.
    """
    check_inputs(job)
    with hold_folder(job.out):
        return _Job(job, caller, on_progress, on_line).run()


def check_inputs(job: AlignJob) -> None:
    """Look into what was given, before anything is written or built.

    Raises:
        InputError: a file that cannot be read, or a line that is no problem.
    """
    for problems in job.problems:
        read_problem_file(problems)
    for chats in job.chats:
        next(read_chats(chats), None)
    if job.data is not None:
        for name in ("packs-train.parquet", HELDOUT_FILE):
            if not (found := find_output(job.data, name)).exists():
                raise InputError(f"{found} is not there: --data names what `codegemma build` wrote")


class _Job:
    def __init__(self, job: AlignJob, caller: Caller, on_progress: Progress, on_line: OnLine) -> None:
        self.job, self.choices, self.out = job, job.choices, job.out
        self.on_progress, self.on_line = on_progress, on_line
        self.config = describe_model(job.base)
        self.tokenizer = Tokenizer.load(job.base)
        self.judge = Judge(caller, job.choices.policy.reward)
        self.heldout = make_problems(job.choices.exercises, Split.HELDOUT)
        self.given, count = read_given(job.problems, caller, job.out / _GIVEN_FILE)
        exercises = make_problems(job.choices.exercises, Split.TRAIN)
        # Those that were given come first: whoever gives some wants them asked.
        self.trained = [*self.given, *(replace(p, number=len(self.given) + p.number) for p in exercises)]
        sizes = (len(self.trained), len(self.heldout))
        self.result = AlignResult(job.out / MODEL_FOLDER, problems=sizes, given=count)

    def run(self) -> AlignResult:
        try:
            return self._run()
        finally:
            self.judge.close()

    def _run(self) -> AlignResult:
        stages, model = self.choices.stages, self.job.base
        self.measure("base", model, has_problems=False)
        control = None
        if "sft" in stages:
            done = self.tune("sft", model, self.choices.sft)
            model = control = self.average(done)
            self.measure("sft", model)
        for name, run in (("best", self.tune_best), ("dpo", self.prefer), ("grpo", self.reinforce)):
            if name not in stages:
                continue
            done = run(model)
            model = done.model
            self.measure(name, model)
            if control is not None and self.choices.has_control:
                control = self.continue_control(name, control, done)
        self.measure(stages[-1], model, has_infill=True)
        self.keep_model(model)
        return self.result

    def tune(self, name: str, base: Path, choices: TrainChoices, data: Path | None = None) -> StageResult:
        """Tune on conversations by the training that there is; by default on demonstrations and given ones."""
        shares: tuple[str, ...] = ("conversation=1",)
        if self.job.data is not None and self.choices.rehearsal_share:
            share = self.choices.rehearsal_share
            shares = (f"conversation={1 - share}", f"code+synthetic={share}")
        trained = train(
            TrainJob(
                data=data or self.write_conversations(self.out / _SFT_DATA, self.list_conversations),
                out=self.out / name,
                train=choices,
                feed=replace(self.job.feed, mixture=MixtureChoices(shares)),
                tokenizer=self.tokenizer,
                base=base,
                held_to=self.held_to if self.job.data is not None and self.choices.rehearsal_share else None,
                hold=self.choices.rehearsal_hold,
                recipe=self.job.recipe,
            ),
            lambda _, done, total: self.on_progress(name, done, total),
            self.on_line,
        )
        flops = 6.0 * self.config.count_parameters() * trained.tokens
        done = StageResult(trained.model, trained.steps, trained.seconds, flops, trained.resumed_step)
        self.result.stages[name] = done
        return done

    def tune_best(self, base: Path) -> StageResult:
        """Rejection sampling: tune on the best of each problem's answers, where one passed."""

        def list_best() -> Iterator[Pack]:
            params, config = load_model(base)
            for problem, written, judged in self.answer(params, config):
                if best := choose_best(problem, written, judged):
                    yield make_pack(best, "best-of-n", problem.number)

        data = self.write_conversations(self.out / "best-data", list_best)
        return self.tune("best", base, replace(self.choices.sft, seed=self.choices.sft.seed + 100), data)

    def answer(self, params: Params, config: GemmaConfig) -> Iterator[tuple[Problem, list[Written], list[Judged]]]:
        """Let the model answer trained problems several times, and run its answers."""
        choices = self.choices.preference
        writing = Writing(choices.sampling.answers, choices.sampling.max_new_tokens, choices.sampling.temperature)
        writer, problems = Writer(config, self.tokenizer), self.trained[: choices.problems]
        return sample_answers(params, writer, problems, self.judge, writing, self.on_progress)

    def average(self, done: StageResult) -> Path:
        """Average the last checkpoints of instruction tuning, where that was chosen."""
        count = self.choices.averaged_checkpoints
        if count == 1:
            return done.model
        target = self.out / "sft" / "average" / MODEL_FOLDER
        return target if target.is_dir() else average_run(self.out / "sft", self.choices.sft, done.steps, count)

    def list_conversations(self) -> Iterator[Pack]:
        """List what is demonstrated, and what was given."""
        for problem in self.trained:
            if problem.demonstration is not None:
                yield make_pack([problem.turn, Turn("model", problem.demonstration)], "exercises", problem.number)
        for chats in self.job.chats:
            row = self.choices.sft.row_tokens
            yield from pack_chats(read_chats(chats), chats.name, self.tokenizer, row, self.result.chats)

    def write_conversations(self, folder: Path, list_packs: Callable[[], Iterator[Pack]]) -> Path:
        """Write the packs that instruction tuning reads, once: conversations and code."""
        file = folder / "packs-train.parquet"
        if not file.is_file():
            packs = list(list_packs())
            if not packs:
                raise InputError(
                    "there is no conversation to tune on: give --chats, or align.exercises.demonstrated, or for the "
                    "best of n answers more of them"
                )
            if self.job.data is not None:
                code = read_records(find_output(self.job.data, "packs-train.parquet"), Pack)
                packs += (pack for pack in code if pack.kind in (SourceKind.CODE, SourceKind.SYNTHETIC))
            write_records(file, packs)
        return folder

    def prefer(self, base: Path) -> StageResult:
        """DPO on pairs of the model's own answers."""
        choices, file = self.choices.preference, self.out / "dpo" / PAIRS_FILE

        def make_source(params: Params, config: GemmaConfig) -> PairSource:
            if not file.is_file():
                self.make_pairs(file, params, config)
            return PairSource(load_pairs(file)[0], choices, self.rehearse(choices.train), config.count_parameters())

        objective = self.make_objective(partial(judge_pairs, choices=choices))
        done = self.run_stage("dpo", base, choices.train, objective, make_source)
        # To write an answer's token takes a third of what learning from it takes; that belongs to the stage as well.
        written = 2.0 * self.config.count_parameters() * load_pairs(file)[1]
        self.result.stages["dpo"] = done = replace(done, flops=done.flops + written)
        return done

    def make_pairs(self, file: Path, params: Params, config: GemmaConfig) -> None:
        """Let the model answer, run its answers, and write down pairs."""
        choices = self.choices.preference
        rng, tokens = random.Random(choices.train.seed), 0
        pairs: list[Preference] = []
        for _, written, judged in self.answer(params, config):
            tokens += len(written[0].prompt) + sum(len(one.rollout.ids) for one in written)
            pairs += pick_pairs(written, judged, choices.pairs_per_problem, rng)
        store_pairs(file, rate_reference(params, config, pairs), tokens)

    def reinforce(self, base: Path) -> StageResult:
        """GRPO or REINFORCE on problems whose answers are run."""
        choices = self.choices.policy

        def make_source(params: Params, config: GemmaConfig) -> PolicySource:
            writer = Writer(config, self.tokenizer)
            rescore = take_rewards if choices.judge == "tests" else self.make_head(params, config)
            return PolicySource(
                self.trained, params, writer, self.judge, choices, self.rehearse(choices.train), rescore
            )

        objective = self.make_objective(partial(judge_policy, choices=choices))
        return self.run_stage("grpo", base, choices.train, objective, make_source)

    @property
    def held_to(self) -> Path | None:
        """The model that rehearsed code is held to: the job's base, whatever a stage starts from."""
        return self.job.base if self.choices.rehearsal_hold else None

    def make_objective(self, judge: JudgeRows) -> Objective:
        """Add rehearsal, as it was chosen, to a loss on answers."""
        return make_objective(judge, self.choices.rehearsal_weight, self.choices.rehearsal_hold)

    def make_head(self, params: Params, config: GemmaConfig) -> Rescore:
        """Train a reward head on pairs, which are made where DPO made none; the same pairs give the same head."""
        file = self.out / "dpo" / PAIRS_FILE
        if not file.is_file():
            self.make_pairs(file, params, config)
        head = train_head(params, config, load_pairs(file)[0])

        def rescore(written: Sequence[Written], judged: Sequence[Judged]) -> Any:  # noqa: ARG001
            return head.rate(read_states(params, config, [(one.prompt, one.rollout.ids) for one in written]))

        return rescore

    def run_stage(
        self, name: str, base: Path, choices: TrainChoices, objective: Any, make_source: Callable[..., Any]
    ) -> StageResult:
        """Run a stage with what else decides its result."""
        about: dict[str, Any] = {
            "choices": replace(self.choices.preference if name == "dpo" else self.choices.policy, train=TrainChoices()),
            "exercises": self.choices.exercises,
            "rehearsal": [self.choices.rehearsal_rows, self.choices.rehearsal_weight],
        }
        if self.given:
            cases = [[spell_value([tuple(c) for c in tests]) for tests in (p.tests, p.audits)] for p in self.given]
            about["given"] = fingerprint([[p.words, p.function, *c] for p, c in zip(self.given, cases, strict=True)])
        if self.held_to is not None:
            about["hold"] = self.choices.rehearsal_hold
        stage = Stage(name, base, self.out / name, choices, objective, about, self.held_to)
        done = run_stage(stage, make_source, self.on_progress)
        self.result.stages[name] = done
        return done

    def rehearse(self, choices: TrainChoices) -> Rehearsal:
        """Open the code that a stage rehearses."""
        shape = RowShape(self.choices.rehearsal_rows, self.choices.sft.row_tokens)
        return Rehearsal(self.job.data, self.tokenizer, self.job.feed, shape, choices.seed)

    def continue_control(self, name: str, control: Path, done: StageResult) -> Path:
        """Tune the control further, by as many operations as the stage took, and compare."""
        choices = self.choices.sft
        step_flops = 6.0 * self.config.count_parameters() * choices.batch_rows * choices.row_tokens
        steps = max(1, round(done.flops / step_flops))
        label = f"control-{name}"
        tuned = self.tune(label, control, replace(choices, steps=steps, seed=choices.seed + len(self.result.gains) + 1))
        self.measure(label, tuned.model)
        self.result.gains.append(compare_solved(name, self.result.solved[name], label, self.result.solved[label]))
        return tuned.model

    def measure(self, name: str, model: Path, *, has_problems: bool = True, has_infill: bool = False) -> None:
        """Measure a model on held-out problems, and at the ends on holes."""
        sampling = self.choices.policy.sampling
        identity = fingerprint(hash_model(model), self.choices.exercises, sampling)
        if has_problems and name not in self.result.solved:
            solve = partial(solve_problems, model, self.heldout, self.judge, sampling, self.on_progress)
            self.result.solved[name] = keep(
                self.out / "figures" / f"{name}-problems.json", ProblemResult, identity, solve
            )
        if has_infill or name == "base":
            self.fill(name, model)

    def fill(self, name: str, model: Path) -> None:
        """Measure a model on holes in held-out code, and in code that was not rehearsed; keep both."""
        holes, figures = self.choices.infill_holes, self.out / "figures"
        sets: list[tuple[str, dict[str, list[HoleResult]], Callable[[], list[Pack]]]] = []
        if holes and (data := self.job.data) is not None:
            sets.append(("holes", self.result.filled, partial(read_heldout, data)))
        if holes and (package := self.job.elsewhere) is not None:
            sets.append(("holes-elsewhere", self.result.filled_elsewhere, partial(read_package, package)))
        for label, filled, read in sets:
            share = -(-holes // len(sets))
            packs = read()
            identity = fingerprint(hash_model(model), share, [file.blob for pack in packs for file in pack.files])
            fill = partial(fill_holes, model, packs, share, self.on_progress)
            filled[name] = keep(figures / f"{name}-{label}.json", HoleResult, identity, fill)

    def keep_model(self, model: Path) -> None:
        """Put the last stage's model in its place."""
        target = self.result.model
        if model != target:
            partial_copy = target.with_name(f".{MODEL_FOLDER}.new")
            shutil.rmtree(partial_copy, ignore_errors=True)
            shutil.copytree(model, partial_copy)
            shutil.rmtree(target, ignore_errors=True)
            partial_copy.rename(target)
