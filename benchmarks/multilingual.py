"""Times the whole multilingual table: every problem of BabelCode's two sets in eight languages, as stub programs.

**In**: the folder of the published files, toolchains; how many problems a set.
**Out**: time for each language; the ratio to plain commands one by one, on a sample; who cannot pass; the ceilings.
**Not**: a model: a stub gives the expected values in turn, so it compiles, runs and passes, or shows who cannot.

    python -m benchmarks.multilingual --data DIR [--limit 20] [--languages go rust] [--write ceilings.toml]

At most 20 core-minutes for all, and at least 3 times faster than plain commands, as BabelCode gives them: cold
compilers, the same programs one by one, without a box. Processor time is what control groups count; without them the
clock times the cores, which is no less.
"""

import argparse
import collections
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.core_time import open_core_time

from codegemma.evals.babelcode.compare import Scorer
from codegemma.evals.babelcode.judge import BabelJudge
from codegemma.evals.babelcode.languages import TARGETS, read_preludes, read_target
from codegemma.evals.babelcode.questions import Question, ask_problems, read_sources
from codegemma.evals.babelcode.suites import make_attempt
from codegemma.evals.babelcode.translate import Posed, pose
from codegemma.sandbox.box import Sandbox
from codegemma.sandbox.toolchains import look_for, read_toolchains

FILES = {"babelcode-humaneval": "HumanEval.jsonl.gz", "babelcode-mbpp": "mbpp_sanitized.jsonl.gz"}
SAMPLE = 40
# As BabelCode runs them: cold compilers, one program after the other.
PLAIN = {
    "cpp": "g++ -w main.cpp -o main.exe && ./main.exe",
    "csharp": "mcs -nologo -warn:0 -r:System.Numerics.dll -out:main.exe main.cs Tell.cs && mono main.exe",
    "go": "go build -o main.exe answer.go asked.go tell.go && ./main.exe",
    "java": "javac -d . Tell.java Asked.java && java Asked",
    "javascript": "node main.js .",
    "kotlin": "kotlinc -nowarn -no-reflect Asked.kt tell.kt -d . && "
    "java -cp .:/usr/share/kotlin/kotlinc/lib/kotlin-stdlib.jar plain.AskedKt",
    "python": "python3 -I main.py .",
    "rust": "rustc --edition 2021 -A warnings -L . main.rs -o main.exe && ./main.exe",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds by the clock, and of processor where control groups tell them."""

    clock_s: float
    core_s: float

    def __sub__(self, before: "Spent") -> "Spent":
        return Spent(self.clock_s - before.clock_s, self.core_s - before.core_s)

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.clock_s + other.clock_s, self.core_s + other.core_s)

    def __mul__(self, times: float) -> "Spent":
        return Spent(self.clock_s * times, self.core_s * times)


CORE = open_core_time()
NOTHING = Spent(0.0, 0.0)


def read_spent() -> Spent:
    """Tell what was spent since some time or other."""
    return Spent(time.perf_counter(), CORE.read_s() if CORE else 0.0)


# What is no part of the programs, done before the clock starts.
BEFORE = {"rust": "rustc --edition 2021 -A warnings --crate-type rlib --crate-name tell tell.rs"}


def judge_all(
    sandbox: Sandbox, key: str, questions: Sequence[Question], write: Callable[[Posed], str] = Posed.write_stub
) -> tuple[dict[Scorer, dict[str, str]], Spent]:
    """Judge an answer to every question; tell why those that fail do, and what it took."""
    target, started = read_target(key), read_spent()
    with (
        BabelJudge(sandbox, read_toolchains()[key], target, questions) as judge,
        ThreadPoolExecutor(judge.boxes) as pool,
    ):
        posed = [pose(question, target) for question in questions]
        attempts = [make_attempt(one, write(one)) for one in posed]
        failed: dict[Scorer, dict[str, str]] = {}
        for scorer in Scorer:
            verdicts = pool.map(judge.examine_by, attempts, [scorer] * len(attempts))
            failed[scorer] = {
                attempt.task_id: verdict.reason
                for attempt, verdict in zip(attempts, verdicts, strict=True)
                if not verdict.has_passed
            }
    return failed, read_spent() - started


def run_plainly(key: str, questions: Sequence[Question]) -> Spent:
    """Compile and run the same programs by plain commands, one by one; tell what it took."""
    target, spent = read_target(key), NOTHING
    for question in questions:
        posed = pose(question, target)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file, text in posed.write_files(posed.write_stub()).items():
                folder.joinpath(file).write_text(text.replace("@PACKAGE@", "plain"))
            for file, content in read_preludes(key).items():
                folder.joinpath(file).write_bytes(content)
            run_shell(BEFORE.get(key, "true"), folder)
            started = read_spent()
            run_shell(PLAIN[key], folder)
            spent += read_spent() - started
    return spent


def run_shell(line: str, folder: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/tmp/plain", "GO111MODULE": "off", "CGO_ENABLED": "0"}  # noqa: S108
    subprocess.run(
        ["/bin/sh", "-c", line], input=b"mark\n", cwd=folder, env=environment, check=True, capture_output=True
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--sample", type=int, default=SAMPLE)
    parser.add_argument("--languages", nargs="+", default=TARGETS)
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args()
    ceilings: dict[str, dict[str, dict[str, int]]] = collections.defaultdict(lambda: collections.defaultdict(dict))
    total, plain_total = NOTHING, NOTHING
    with Sandbox() as sandbox:
        asked = {
            suite: ask_problems(sandbox, read_sources(chosen.data / file, suite), suite)[: chosen.limit]
            for suite, file in FILES.items()
        }
        questions = [question for found in asked.values() for question in found]
        sample = questions[:: max(1, len(questions) // max(1, chosen.sample))][: chosen.sample]
        for key in chosen.languages:
            found = look_for(read_toolchains()[key])
            if found.problem:
                print(f"{key:11} not run: {found.problem}")
                continue
            failed, spent = judge_all(sandbox, key, questions)
            plain = run_plainly(key, sample) * (len(questions) / len(sample))
            total, plain_total = total + spent, plain_total + plain
            print(
                f"{key:11} {found.version:10} {len(questions)} programs, plainly by {len(sample)} of them: "
                f"{compare(spent, plain, sandbox.boxes)}",
                flush=True,
            )
            found_out = {"stubs": failed}
            if key == "python":
                found_out["published solutions"] = judge_all(sandbox, key, questions, Posed.write_solution)[0]
            for what, by_scorer in found_out.items():
                for scorer, reasons in by_scorer.items():
                    for suite, those in asked.items():
                        passed = sum(question.task_id not in reasons for question in those)
                        ceilings[suite][f"{what}, {scorer}"][key] = passed
                    for task_id, reason in reasons.items():
                        print(f"    {what}, {scorer} {task_id}: {reason.splitlines()[0][:200]}", flush=True)
    if total.clock_s:
        print(f"all (wanted: 20 core-minutes, 3 times): {compare(total, plain_total, sandbox.boxes)}")
    if chosen.write:
        chosen.write.write_text(spell_ceilings(ceilings))


def compare(ours: Spent, plain: Spent, cores: int) -> str:
    """Spell what both ways took."""
    clock = (
        f"{ours.clock_s:.0f} s on {cores} cores, plainly {plain.clock_s:.0f}: {plain.clock_s / ours.clock_s:.1f} times"
    )
    if not CORE:
        return f"{clock}; at most {ours.clock_s * cores / 60:.1f} core-minutes"
    times = f"{plain.core_s / ours.core_s:.1f} times"
    return f"{clock}; {ours.core_s / 60:.2f} core-minutes, plainly {plain.core_s / 60:.2f}: {times}"


def spell_ceilings(ceilings: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    lines = ["# What programs that know the answers score: written by benchmarks/multilingual.py."]
    for suite, rows in ceilings.items():
        lines += ["", f"[{suite}]"]
        for name, row in rows.items():
            lines.append(f'"{name}" = {{ {", ".join(f"{key} = {count}" for key, count in row.items())} }}')
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
