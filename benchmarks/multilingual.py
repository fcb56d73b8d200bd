"""Times the whole multilingual table: every problem of BabelCode's two sets in eight languages, as stub programs.

**In**: the folder of the published files, toolchains.
**Out**: for each language what it took, beside plain commands one by one on a sample; who cannot pass; the ceilings.
**Not**: a model: a stub gives the expected values in turn, so it compiles, runs and passes, or shows who cannot.

    python -m benchmarks.multilingual --data DIR --out FILE [--write ceilings.toml]

At most 20 core-minutes for all, and at least 3 times faster than plain commands, as BabelCode gives them: cold
compilers, the same programs one by one, without a box. Processor time is what control groups count; without them the
clock times the cores, which is no less. On two quiet cores all takes some 15 minutes: 7 for the table, 1 for Python's
published solutions, 7 for 40 plain programs of each language, of which Kotlin's are half (`--sample 5`, 40 over all:
1 minute). What is measured is written to FILE, part by part: the same command goes on after the last whole one. The
exit code is 1 where the whole was measured and a claim does not hold.
"""

import argparse
import collections
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.core_time import Spent, open_core_time, read_spent
from benchmarks.peers.plain_compilers import run_plainly

from codegemma.evals.babelcode.compare import Scorer
from codegemma.evals.babelcode.judge import BabelJudge
from codegemma.evals.babelcode.languages import TARGETS, read_preludes, read_target
from codegemma.evals.babelcode.questions import Question, ask_problems, read_sources
from codegemma.evals.babelcode.suites import make_attempt
from codegemma.evals.babelcode.translate import Posed, pose
from codegemma.recipe import from_plain, to_plain
from codegemma.sandbox.box import Sandbox
from codegemma.sandbox.toolchains import look_for, read_toolchains

FILES = {"babelcode-humaneval": "HumanEval.jsonl.gz", "babelcode-mbpp": "mbpp_sanitized.jsonl.gz"}
SAMPLE = 40
TOLD_EACH = 100
MAX_CORE_MINUTES, MIN_TIMES = 20.0, 3.0
STUBS, SOLUTIONS, PLAIN = "stubs", "published solutions", "plain commands"
CORE = open_core_time()


@dataclass(frozen=True, slots=True)
class Found:
    """What a part took, and by scorer who failed and why."""

    spent: Spent
    failed: dict[str, dict[str, str]] = field(default_factory=dict)


class Ledger:
    """What was measured: a JSON line for each part, read again by the next run."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._known = path, dict[str, Found]()
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                known = json.loads(line)
                self._known[known["part"]] = from_plain(Found, known["found"])

    def measure(self, part: str, run: Callable[[], Found]) -> Found:
        """Measure a part, unless it is known."""
        if part in self._known:
            print(f"    {part}: as measured before", flush=True)
            return self._known[part]
        found = self._known[part] = run()
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as lines:
                print(json.dumps({"part": part, "found": to_plain(found)}), file=lines)
        return found


def judge_all(
    sandbox: Sandbox, key: str, questions: Sequence[Question], write: Callable[[Posed], str] = Posed.write_stub
) -> Found:
    """Judge an answer to every question."""
    target, started = read_target(key), read_spent(CORE)
    failed: dict[str, dict[str, str]] = {scorer: {} for scorer in Scorer}
    with (
        BabelJudge(sandbox, read_toolchains()[key], target, questions) as judge,
        ThreadPoolExecutor(judge.boxes) as pool,
    ):
        attempts = [make_attempt(one, write(one)) for one in (pose(question, target) for question in questions)]
        for scorer in Scorer:  # the second finds what the program did
            verdicts = pool.map(judge.examine_by, attempts, [scorer] * len(attempts))
            for number, (attempt, verdict) in enumerate(zip(attempts, verdicts, strict=True), 1):
                if not verdict.has_passed:
                    failed[scorer][attempt.task_id] = verdict.reason
                if scorer is Scorer.PUBLISHED and number % TOLD_EACH == 0:
                    spent = read_spent(CORE) - started
                    print(f"    {key} {number} of {len(attempts)} after {spent.clock_s:.0f} s", flush=True)
    return Found(read_spent(CORE) - started, failed)


def run_sample(key: str, questions: Sequence[Question]) -> Found:
    """Compile and run stubs by plain commands, one by one."""
    posed = [pose(question, read_target(key)) for question in questions]
    files = [one.write_files(one.write_stub()) for one in posed]
    return Found(run_plainly(key, files, read_preludes(key), lambda: read_spent(CORE)))


def spread(questions: Sequence[Question], count: int) -> list[Question]:
    """Take so many, as far apart as they can be."""
    return [questions[i * len(questions) // count] for i in range(count)] if count < len(questions) else [*questions]


def measure_language(
    sandbox: Sandbox, ledger: Ledger, key: str, version: str, questions: Sequence[Question], sample: Sequence[Question]
) -> tuple[dict[str, Found], Spent]:
    """Judge all, and tell what plain commands would take, by the sample."""
    name = f"{key} {version}, {len(questions)}"
    found = {STUBS: ledger.measure(f"{name} {STUBS}", lambda: judge_all(sandbox, key, questions))}
    plain = ledger.measure(f"{name} by {len(sample)} {PLAIN}", lambda: run_sample(key, sample))
    if key == "python":
        solutions = f"{name} {SOLUTIONS}"
        found[SOLUTIONS] = ledger.measure(solutions, lambda: judge_all(sandbox, key, questions, Posed.write_solution))
    return found, plain.spent * (len(questions) / len(sample))


def main() -> int:
    """Measure, print as it goes, and tell whether the claims hold."""
    chosen = parse_arguments()
    ledger = Ledger(chosen.out)
    ceilings: dict[str, dict[str, dict[str, int]]] = collections.defaultdict(lambda: collections.defaultdict(dict))
    total, plain_total, measured = Spent(), Spent(), 0
    with Sandbox() as sandbox:
        asked = {
            suite: ask_problems(sandbox, read_sources(chosen.data / file, suite), suite)[: chosen.limit]
            for suite, file in FILES.items()
        }
        questions = [question for found in asked.values() for question in found]
        for key in chosen.languages:
            toolchain = look_for(read_toolchains()[key])
            if toolchain.problem:
                print(f"{key:11} not run: {toolchain.problem}", flush=True)
                continue
            sample = spread(questions, chosen.sample)
            found, plain = measure_language(sandbox, ledger, key, str(toolchain.version), questions, sample)
            total, plain_total, measured = total + found[STUBS].spent, plain_total + plain, measured + 1
            about = f"{key:11} {toolchain.version:10} {len(questions)} programs, plainly by {len(sample)} of them"
            print(f"{about}: {compare(found[STUBS].spent, plain, sandbox.boxes)}", flush=True)
            for line in count_passed(key, found, asked, ceilings):
                print(line, flush=True)
        if chosen.write:
            chosen.write.write_text(spell_ceilings(ceilings))
        if not measured:
            return 0
        print(f"all {measured} languages: {compare(total, plain_total, sandbox.boxes)}")
        if measured < len(TARGETS) or chosen.limit is not None:
            print("a part of the table: the claims are of the whole")
            return 0
        return tell_claims(total, plain_total, sandbox.boxes)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the published files")
    parser.add_argument("--out", type=Path, help="what was measured, part by part; read again")
    parser.add_argument("--write", type=Path, help="the ceilings, as evals/babelcode/ceilings.toml has them")
    parser.add_argument("--sample", type=int, default=SAMPLE, help="plain programs of each language [default: 40]")
    parser.add_argument("--limit", type=int, help="problems of each set; a trial")
    parser.add_argument("--languages", nargs="+", default=TARGETS, choices=TARGETS)
    return parser.parse_args()


def count_passed(
    key: str,
    found: Mapping[str, Found],
    asked: Mapping[str, Sequence[Question]],
    ceilings: Mapping[str, Mapping[str, dict[str, int]]],
) -> Iterator[str]:
    """Enter in the ceilings how many passed, and tell who did not."""
    for what, part in found.items():
        for scorer, reasons in part.failed.items():
            for suite, those in asked.items():
                ceilings[suite][f"{what}, {scorer}"][key] = sum(q.task_id not in reasons for q in those)
            for task_id, reason in reasons.items():
                yield f"    {what}, {scorer} {task_id}: {reason.partition(chr(10))[0][:200]}"


def count_core_minutes(spent: Spent, cores: int) -> float:
    """Take the clock times the cores where nothing counts processor time."""
    return (spent.core_s if CORE else spent.clock_s * cores) / 60


def compare(ours: Spent, plain: Spent, cores: int) -> str:
    """Spell what both ways took."""
    clock = (
        f"{ours.clock_s:.0f} s on {cores} cores, plainly {plain.clock_s:.0f}: {plain.clock_s / ours.clock_s:.1f} times"
    )
    minutes = count_core_minutes(ours, cores)
    if not CORE:
        return f"{clock}; at most {minutes:.1f} core-minutes"
    times = f"{plain.core_s / ours.core_s:.1f} times"
    return f"{clock}; {minutes:.2f} core-minutes, plainly {plain.core_s / 60:.2f}: {times}"


def tell_claims(ours: Spent, plain: Spent, cores: int) -> int:
    """Print whether both claims hold; the exit code."""
    claims = {
        f"at most {MAX_CORE_MINUTES:.0f} core-minutes": count_core_minutes(ours, cores) <= MAX_CORE_MINUTES,
        f"at least {MIN_TIMES:.0f} times faster": plain.clock_s / ours.clock_s >= MIN_TIMES,
    }
    for claim, holds in claims.items():
        print(f"{claim}: {'holds' if holds else 'DOES NOT HOLD'}")
    return 0 if all(claims.values()) else 1


def spell_ceilings(ceilings: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    lines = ["# What programs that know the answers score: written by benchmarks/multilingual.py."]
    for suite, rows in ceilings.items():
        lines += ["", f"[{suite}]"]
        for name, row in rows.items():
            lines.append(f'"{name}" = {{ {", ".join(f"{key} = {count}" for key, count in row.items())} }}')
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
