"""HumanEval, MBPP and the infilling sets: answers are programs, and pass or do not.

**In**: an examination with the published files among its data.
**Out**: a `Sample` written for each problem, sample and mode; `Answers`: pass@k with intervals by policy.
**Not**: other languages than Python.

The card's figures are pass@1 of one greedy sample, by their fractions of 164, 500, 1,033 and 5,815. Which prompt, order
of the parts and policy gave them is not published: modes and policies stand side by side here.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from codegemma.errors import InputError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.examination import Answers, Examination, Suite
from codegemma.evals.problems import (
    MBPP_SHOTS,
    MBPP_TEST,
    Problem,
    ask_in_conversation,
    choose_problems,
    join_shots,
    read_humaneval,
    read_infilling,
    read_mbpp,
    read_problems,
)
from codegemma.evals.programs import NO_OTHERS, Answerer, Asking, Examine, Judge
from codegemma.evals.samples import Sample, Tally
from codegemma.sandbox.box import Safety, Sandbox
from codegemma.sandbox.judge import PythonJudge

HUMANEVAL_FILE, MBPP_FILE, SANITIZED_FILE = "HumanEval.jsonl.gz", "mbpp.jsonl.gz", "mbpp_sanitized.jsonl.gz"
HUMANEVAL_ORIGIN = "https://github.com/openai/human-eval (folder data)"
INFILLING_ORIGIN = "https://github.com/openai/human-eval-infilling (folder data)"
MBPP_ORIGIN = "https://github.com/google-research/google-research (folder mbpp), gzipped"
# Chen et al. wrote at most 300 tokens for a body; Austin et al. give a whole function 512.
_FUNCTION_TOKENS = 512
# HumanEval's programs are no files: one of a name that says nothing.
_PATH = "solution.py"
CONVERSATION_NOTE = "asked in a conversation, without shots: the published prompts of tuned models are not known"
POLICY_NOTE = "policies cut the same answers: the first is the headline, the others tell how much the cut decides"


@dataclass(frozen=True, slots=True)
class InfillingSet:
    """One of the four sets: its file, its size, what its holes are called and how answers to them are cut."""

    file: str
    tasks: int
    kind: str
    policies: tuple[str, ...]


# The first policy is the headline: a missing line is a line; of the rest only the model knows where it ends.
INFILLING_SETS = {
    "infilling-single": InfillingSet(
        "HumanEval-SingleLineInfilling.jsonl.gz", 1033, "single_line", ("first_line", "all", "suffix")
    ),
    "infilling-multi": InfillingSet(
        "HumanEval-MultiLineInfilling.jsonl.gz", 5815, "multi_line", ("all", "suffix", "scope", "parses")
    ),
    "infilling-random": InfillingSet(
        "HumanEval-RandomSpanInfilling.jsonl.gz", 1640, "random_span", ("all", "suffix", "parses")
    ),
    "infilling-random-light": InfillingSet(
        "HumanEval-RandomSpanInfillingLight.jsonl.gz", 164, "random_span_light", ("all", "suffix", "parses")
    ),
}


def run_infilling(exam: Examination, name: str) -> Answers:
    """Fill the holes of one set, in every mode that the subject knows, without a path and, if wanted, with one."""
    chosen = INFILLING_SETS[name]
    path = exam.find(*_need(chosen.file, INFILLING_ORIGIN))
    problems = choose_problems(read_problems(path, read_infilling, INFILLING_ORIGIN, chosen.tasks), exam.choices.limit)
    kinds = {chosen.kind: None} | ({f"{chosen.kind}_with_path": _PATH} if exam.choices.has_path_line else {})
    askings = [
        Asking(kind, mode, chosen.policies, exam.choices.max_new_tokens, path=path)
        for kind, path in kinds.items()
        for mode in sorted(exam.subject.infill_modes)
    ]
    return answer_programs(exam, problems, askings)


def run_humaneval(exam: Examination) -> Answers:
    """Complete the functions of HumanEval from their heads."""
    path = exam.find(*_need(HUMANEVAL_FILE, HUMANEVAL_ORIGIN))
    problems = choose_problems(read_problems(path, read_humaneval, HUMANEVAL_ORIGIN, 164), exam.choices.limit)
    return _answer_functions(
        exam, problems, Asking("humaneval", None, ("stop_words", "all", "parses"), _FUNCTION_TOKENS)
    )


def run_mbpp(exam: Examination) -> Answers:
    """Write the functions of MBPP's test split from a sentence and three tests, after three solved ones."""
    path = exam.find(*_need(MBPP_FILE, MBPP_ORIGIN))
    problems = {p.task_id: p for p in read_problems(path, read_mbpp, MBPP_ORIGIN, 974)}
    shots = join_shots([problems[f"MBPP/{number}"] for number in MBPP_SHOTS])
    asked = choose_problems([problems[f"MBPP/{number}"] for number in MBPP_TEST], exam.choices.limit)
    return _answer_functions(exam, asked, Asking("mbpp", None, ("done", "all"), _FUNCTION_TOKENS, shots=shots))


def run_mbpp_sanitized(exam: Examination) -> Answers:
    """Write the functions of the sanitized problems, with the shots of the whole set where it is among the data."""
    path = exam.find(*_need(SANITIZED_FILE, MBPP_ORIGIN))
    problems = {p.task_id: p for p in read_problems(path, read_mbpp, MBPP_ORIGIN, 427)}
    shots = join_shots([p for n in MBPP_SHOTS if (p := problems.pop(f"MBPP/{n}", None))])
    asked = choose_problems(list(problems.values()), exam.choices.limit)
    return _answer_functions(
        exam, asked, Asking("mbpp_sanitized", None, ("done", "all"), _FUNCTION_TOKENS, shots=shots)
    )


def _answer_functions(exam: Examination, problems: Sequence[Problem], asking: Asking) -> Answers:
    """Ask for whole functions: by a text that goes on, or in a conversation, without shots."""
    if not exam.choices.is_chat:
        return answer_programs(exam, problems, [asking])
    asking = replace(asking, policies=("fence", "all"), shots="")
    answers = answer_programs(exam, [ask_in_conversation(problem) for problem in problems], [asking])
    return replace(answers, notes=(*answers.notes, CONVERSATION_NOTE))


def _need(file: str, origin: str) -> tuple[str, str]:
    return file, f"the benchmark as published at {origin}"


def answer_programs(
    exam: Examination,
    problems: Sequence[Problem],
    askings: Sequence[Asking],
    judge: Judge | None = None,
    others: Mapping[str, Examine] = NO_OTHERS,
) -> Answers:
    """Ask all problems in every way, have the answers judged (as Python, unless a judge is given), and take figures.

    `others` judge each program again: their figures stand under the policy's name with theirs.
    """
    tally = Tally()

    def take(sample: Sample) -> None:
        tally.add(sample)
        exam.write(sample)

    with contextlib.ExitStack() as opened:
        judge = judge or opened.enter_context(open_python_judge(exam.choices))
        answerer = opened.enter_context(contextlib.closing(Answerer(exam, judge, others)))
        for asking in askings:
            answerer.answer(problems, asking, take)
        notes = (tell_boxes(judge.describe()), POLICY_NOTE, *answerer.tell_window())
    measured = tuple(tally.measure(exam.choices, len(problems)))
    lacking = tally.tell_missing(len(problems))
    return Answers("tests that were run", len(problems), (), notes, measured, lacking)


def tell_boxes(described: Mapping[str, str]) -> str:
    """Say what verdicts hang on."""
    return f"programs ran in boxes ({', '.join(f'{name}: {value}' for name, value in described.items())})"


@contextlib.contextmanager
def open_python_judge(choices: EvalChoices) -> Iterator[PythonJudge]:
    """Open boxes and a judge of Python in them; without boxes only where the choices accept that.

    Raises:
        InputError: there are none.
    """
    safety = Safety.UNSAFE if choices.unsafe else Safety.BOXED
    with Sandbox(safety=safety) as sandbox, _open_judge(sandbox) as judge:
        yield judge


def _open_judge(sandbox: Sandbox) -> PythonJudge:
    try:
        return PythonJudge(sandbox)
    except OSError as error:
        raise InputError(f"programs cannot be run on this machine now: {error}; the same command goes on") from error


PROGRAM_SUITES = (
    Suite(
        "humaneval",
        "functions of HumanEval, completed from their heads",
        run_humaneval,
        [_need(HUMANEVAL_FILE, HUMANEVAL_ORIGIN)],
    ),
    *(
        Suite(
            name,
            f"holes in the solutions of HumanEval: {chosen.kind.replace('_', ' ')}",
            partial(run_infilling, name=name),
            [_need(chosen.file, INFILLING_ORIGIN)],
        )
        for name, chosen in INFILLING_SETS.items()
    ),
    Suite(
        "mbpp",
        "functions of MBPP's test split, written from a sentence and three tests, after three solved ones",
        run_mbpp,
        [_need(MBPP_FILE, MBPP_ORIGIN)],
    ),
    Suite(
        "mbpp-sanitized",
        "the same of the sanitized problems",
        run_mbpp_sanitized,
        [_need(SANITIZED_FILE, MBPP_ORIGIN)],
    ),
)
