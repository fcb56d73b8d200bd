"""A step of GRPO, ours beside TRL's `GRPOTrainer`: same model, same problems, same judge, same CPU, in one run.

Usage::

    pip install trl
    python benchmarks/grpo.py [--steps 8] [--problems 16] [--answers 8] [--threads 2]     # minutes; it tells as it goes

**In**: the shipped base as both start; problems of `align/exercises.py`; answers are run in the same sandbox.
**Out**: seconds a step, tokens written and tokens learned from a second, and the ratios; seconds that an update waited
for rewards; what a program costs in a box of its own and in one that forks.
**Not**: quality: both take the same kind of step, from answers that they draw themselves, so lengths differ a little.
Each contender is a process of its own, and runs alone. Its first six steps compile and warm up, and do not count; where
a later one of ours meets a new shape, what compiling it took is counted apart. TRL's model is not compiled.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

CONTENDERS = ("ours", "trl")
# Ours compiles a step for each size of batch that it meets: all, a half or a quarter of the answers.
_WARM_STEPS = 6
# The longest part of compiling, which is never nested in another of its kind.
_COMPILED = "/jax/core/compile/backend_compile_duration"


class Watcher:
    """Says on standard error how far a contender is."""

    def __init__(self, name: str, steps: int) -> None:
        self._name, self._steps, self._done, self._last = name, steps, 0, time.perf_counter()

    def tell(self) -> None:
        """Tell that a step is done."""
        now, self._done = time.perf_counter(), self._done + 1
        warming = ", warming up" if self._done <= _WARM_STEPS else ""
        seconds = now - self._last
        print(f"{self._name} step {self._done} of {self._steps}: {seconds:.2f} s{warming}", file=sys.stderr, flush=True)
        self._last = now


def measure_ours(args: argparse.Namespace) -> list[dict[str, float]]:
    """Take steps of our policy stage; its own lines tell what they took."""
    import jax

    from codegemma.adapt import find_base
    from codegemma.align.choices import SamplingChoices
    from codegemma.align.exercises import make_problems
    from codegemma.align.objective import judge_policy, make_objective
    from codegemma.align.policy import PolicySource
    from codegemma.align.rehearsal import Rehearsal
    from codegemma.align.rewards import Judge
    from codegemma.align.stage import METRICS_FILE, Stage, run_stage
    from codegemma.align.writing import Writer
    from codegemma.feed.choices import FeedChoices
    from codegemma.feed.loader import RowShape
    from codegemma.recipes import load_recipe
    from codegemma.records import Split
    from codegemma.sandbox.calls import Caller
    from codegemma.text.tokenizer import Tokenizer
    from codegemma.train.meters import read_metrics

    compiled_s = [0.0]

    def count_compiling(event: str, duration_secs: float, **_: str | int) -> None:
        compiled_s[0] += duration_secs if event == _COMPILED else 0.0

    jax.monitoring.register_event_duration_secs_listener(count_compiling)
    compiled_until: list[float] = []
    mark = Watcher("ours", args.steps + _WARM_STEPS)

    def note_step(stage: str, done: int, total: int | None) -> None:  # noqa: ARG001
        compiled_until.append(compiled_s[0])
        mark.tell()

    recipe = load_recipe("tiny_it").align
    sampling = SamplingChoices(args.answers, 1.0, args.tokens)
    train = replace(recipe.policy.train, steps=args.steps + _WARM_STEPS, save_every_steps=10**6)
    # No group is left out, as TRL leaves none out: with a price on tokens hardly two answers are worth the same.
    reward = replace(recipe.policy.reward, free_tokens=0, token_cost=1e-4)
    choices = replace(recipe.policy, problems=args.problems, sampling=sampling, train=train, reward=reward)
    base = find_base("tiny")
    tokenizer = Tokenizer.load(base)
    with tempfile.TemporaryDirectory() as folder, Caller() as caller:
        judge = Judge(caller, reward)

        def make_source(params: Any, config: Any) -> PolicySource:
            rehearsal = Rehearsal(None, tokenizer, FeedChoices(), RowShape(0, 256), 0)
            problems = make_problems(recipe.exercises, Split.TRAIN)
            return PolicySource(problems, params, Writer(config, tokenizer), judge, choices, rehearsal)

        objective = make_objective(partial(judge_policy, choices=choices), 0.0)
        run_stage(Stage("grpo", base, Path(folder) / "run", train, objective, {}), make_source, note_step)
        judge.close()
        lines = read_metrics(Path(folder) / "run" / METRICS_FILE)
    answers, found = args.problems * args.answers, []
    for step in range(_WARM_STEPS, len(lines)):
        before, line = lines[step - 1], lines[step]
        compiling = compiled_until[step] - compiled_until[step - 1]
        found.append(
            {
                "seconds": line["seconds"] - before["seconds"] - compiling,
                "compile_s": compiling,
                "tokens": line["answer_tokens"] * answers,
                "write_s": line["write_s"],
                "update_s": line["update_s"],
                "wait_s": line["reward_wait_s"],
            }
        )
    return found


def measure_trl(args: argparse.Namespace) -> list[dict[str, float]]:
    """Take steps of TRL's trainer on the same base, judged by the same box."""
    import datasets
    import torch
    import transformers
    import trl

    from codegemma.adapt import find_base
    from codegemma.align.choices import ExerciseChoices, RewardChoices
    from codegemma.align.exercises import make_problems
    from codegemma.align.rewards import Answer, Judge
    from codegemma.records import Split
    from codegemma.sandbox.calls import Caller

    torch.set_num_threads(args.threads)
    base = find_base("tiny")
    problems = make_problems(ExerciseChoices(), Split.TRAIN)
    special = {"bos_token": "<bos>", "eos_token": "<end_of_turn>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(base / "tokenizer.json"), padding_side="left", **special
    )
    model = transformers.GemmaForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    rows = [
        {"prompt": f"<bos><start_of_turn>user\n{p.words}<end_of_turn>\n<start_of_turn>model\n", "number": p.number}
        for p in problems
    ]
    marks = [time.perf_counter()]
    written: list[int] = []

    with tempfile.TemporaryDirectory() as folder, Caller() as caller:
        judge = Judge(caller, RewardChoices())

        def reward(completions: list[str], number: list[int], **_: Any) -> list[float]:
            tokens = [len(ids) for ids in tokenizer(completions, add_special_tokens=False).input_ids]
            written.append(sum(tokens))
            answers = [Answer(text, count, True) for text, count in zip(completions, tokens, strict=True)]
            # Answers to one problem come next to each other: together they are one call of the box, as ours are.
            groups = [list(group) for _, group in itertools.groupby(range(len(number)), number.__getitem__)]
            asked = [problems[number[group[0]]] for group in groups]
            return [one.reward for one in judge.judge(asked, [[answers[n] for n in group] for group in groups])]

        watcher = Watcher("trl", args.steps + _WARM_STEPS)

        class Watch(transformers.TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, *_: Any, **__: Any) -> None:
                marks.append(time.perf_counter())
                watcher.tell()

        settings = trl.GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=args.problems * args.answers,
            num_generations=args.answers,
            max_completion_length=args.tokens,
            max_steps=args.steps + _WARM_STEPS,
            learning_rate=2e-4,
            beta=0.01,
            temperature=1.0,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = trl.GRPOTrainer(
            model=model,
            reward_funcs=reward,
            args=settings,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[Watch()],
        )
        marks[0] = time.perf_counter()
        trainer.train()
        judge.close()
    return [
        {"seconds": marks[number + 1] - marks[number], "tokens": float(written[number])}
        for number in range(_WARM_STEPS, args.steps + _WARM_STEPS)
    ]


def measure_boxes(programs: int = 24) -> tuple[float, float]:
    """Time a program in a box of its own, and one in a box that forks; in seconds a program."""
    from codegemma.sandbox.box import Sandbox
    from codegemma.sandbox.calls import Caller
    from codegemma.sandbox.judge import Examinee, PythonJudge

    texts = [f"def f(x):\n    return x + {n}" for n in range(programs)]
    with Sandbox() as sandbox, PythonJudge(sandbox) as judge:
        began = time.perf_counter()
        list(judge.examine_all([Examinee(text, "assert f(1) > 0") for text in texts]))
        alone = (time.perf_counter() - began) / programs
    with Caller() as caller:
        began = time.perf_counter()
        caller.call(texts, "f", [[1]])
        return alone, (time.perf_counter() - began) / programs


def run_contender(name: str, args: argparse.Namespace) -> list[dict[str, float]]:
    """Run a contender alone, in a process of its own."""
    cpus = sorted(os.sched_getaffinity(0))[: args.threads]
    command = ["taskset", "-c", ",".join(map(str, cpus)), sys.executable, __file__, "--contender", name]
    for option in ("steps", "problems", "answers", "tokens", "threads"):
        command += [f"--{option}", str(getattr(args, option))]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(args.threads),
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }
    # Standard error is passed on: it tells the steps.
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{name} ended with {done.returncode}; its last words are above")
    found: list[dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--problems", type=int, default=16)
    parser.add_argument("--answers", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64, help="most tokens of an answer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        print(json.dumps((measure_ours if args.contender == "ours" else measure_trl)(args)))
        return
    began = time.perf_counter()
    steps = {name: run_contender(name, args) for name in CONTENDERS}
    rows = args.problems * args.answers
    print(f"{args.problems} problems x {args.answers} answers of up to {args.tokens} tokens, {args.threads} threads")
    print(f"{'':6s} {'s/step':>8s} {'tokens/step':>12s} {'tokens/s':>9s} {'answers/s':>10s}")
    rates = {}
    for name, found in steps.items():
        seconds = statistics.median(one["seconds"] for one in found)
        tokens = statistics.median(one["tokens"] for one in found)
        rates[name] = tokens / seconds
        print(f"{name:6s} {seconds:8.2f} {tokens:12,.0f} {tokens / seconds:9,.0f} {rows / seconds:10.1f}")
    ours = {key: statistics.median(one[key] for one in steps["ours"]) for key in ("write_s", "update_s", "wait_s")}
    print(f"ours: writes {ours['write_s']:.2f} s, updates {ours['update_s']:.2f} s, waits {ours['wait_s']:.3f} s")
    compiling = sum(one["compile_s"] for one in steps["ours"])
    print(f"ours: {compiling:.1f} s of compiling in counted steps, left out of them")
    print(f"end to end, tokens a second: {rates['ours'] / rates['trl']:.2f} times TRL's")
    alone, forked = measure_boxes()
    print(f"a program: {alone * 1e3:.1f} ms in a box of its own, {forked * 1e3:.1f} ms in one that forks")
    print(f"took {(time.perf_counter() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
