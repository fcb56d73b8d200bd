"""Rows in the very fields of the published benchmarks, with texts of our own: several of each, no two alike."""

import json
from random import Random
from typing import Any

_NOUNS = (
    "harvest", "basket", "orchard", "lantern", "harbour", "caravan", "violin", "glacier", "meadow", "compass", "quarry"
)  # fmt: skip
_VERBS = ("gather", "balance", "sort", "mirror", "fold", "count", "weigh", "braid", "measure", "polish", "scatter")
_ADJECTIVES = (
    "crimson", "hollow", "patient", "brittle", "northern", "gentle", "uneven", "silent", "copper", "narrow", "amber"
)  # fmt: skip


def _say(random: Random, sentences: int) -> str:
    """Make up sentences of sixteen words each."""
    said = []
    for _ in range(sentences):
        a, b, c = (f"{random.choice(_ADJECTIVES)} {random.choice(_NOUNS)}" for _ in range(3))
        verb, other = random.sample(_VERBS, 2)
        said.append(f"Given a list of every {a}, {verb} the {b} until no {c} is left to {other} again.")
    return " ".join(said)


def _name(random: Random) -> str:
    return f"{random.choice(_VERBS)}_{random.choice(_ADJECTIVES)}_{random.choice(_NOUNS)}_{random.randrange(10**6)}"


def _solve(random: Random, name: str) -> str:
    """Make up a function's body."""
    one, two, three = (f"{random.choice(_NOUNS)}_{random.randrange(10**4)}" for _ in range(3))
    return (
        f"    {one} = sorted(item.{two} for item in items if item.{three} > {random.randrange(99)})\n"
        f"    while {one} and {one}[-1] % {random.randrange(2, 9)}:\n        {one}.pop()\n"
        f"    return sum({one}) // max(len({one}), 1)  # {name}\n"
    )


def _assert(random: Random, name: str) -> list[str]:
    return [f"assert {name}({[random.randrange(10**5) for _ in range(6)]}) == {random.randrange(10**6)}" for _ in "abc"]


def make_rows(kind: str, count: int) -> list[dict[str, Any]]:
    """Make rows of one kind; equal arguments, equal rows."""
    return [_make_row(kind, number, Random(f"{kind} {number}")) for number in range(count)]


def _make_row(kind: str, number: int, random: Random) -> dict[str, Any]:
    name, told = _name(random), _say(random, 2)
    head, body, tests = f"def {name}(items):\n", _solve(random, name), _assert(random, name)
    prompt = f'{head}    """{told}"""\n'
    cpp = f"int {name}(vector<int> items) {{\n  int kept = {random.randrange(10**6)};\n  return kept;\n}}"
    check = "def check(candidate):\n    " + "\n    ".join(tests).replace(name, "candidate") + "\n"
    third = len(body) // 3
    rows: dict[str, dict[str, Any]] = {
        "HumanEval": {
            "task_id": f"HumanEval/{number}", "prompt": prompt, "entry_point": name, "canonical_solution": body,
            "test": check,
        },
        "HumanEval-Infilling": {
            "task_id": f"RandomSpanInfilling/HumanEval/{number}/0", "entry_point": name,
            "prompt": prompt + body[:third], "suffix": body[2 * third :], "canonical_solution": body[third : 2 * third],
            "test": check,
        },
        "MBPP": {
            "text": told, "code": (head + body).replace("\n", "\r\n"), "task_id": number, "test_setup_code": "",
            "test_list": tests, "challenge_test_list": [],
        },
        "DS-1000": {
            "prompt": f"Problem:\n{told}\n\nA:\n<code>\nimport pandas as pd\n</code>\nBEGIN SOLUTION\n<code>\n",
            "reference_code": head + body + "\nresult = " + name + "(df.copy())",
            "metadata": {
                "problem_id": number, "library_problem_id": number, "library": "Pandas", "test_case_cnt": 2,
                "perturbation_type": "Origin", "perturbation_origin_id": number,
            },
            "code_context": "import pandas as pd\nexec_context = r'[insert]'\n",
        },
        "SAFIM": {
            "task_id": f"block_completion_{number:06}", "lang": "python", "eval_prompt": head + "{{completion}}",
            "prompt": f"# {told}\n{head}# TODO: Your code here\n", "ground_truth": body, "unit_tests": "[]",
        },
        "CrossCodeEval": {
            "prompt": f"from pkg.{name} import {name}\n\n# {told}\n{head}", "groundtruth": body.strip(),
            "right_context": "\n", "metadata": {"task_id": f"project_cc_python/{number}", "file": "pkg/a.py"},
        },
        "BabelCode": {
            "qid": str(number), "title": name, "language": "Go", "text": told,
            "signature_with_docstring": f"// {told}\nfunc {name}(items []int) int {{",
            "signature": f"func {name}(items []int) int {{", "arguments": ["items"], "solution": head + body,
            "question_info": {"test_code": "package main", "test_list": "[]", "entry_fn_name": name},
        },
        "BabelCode-TransCoder": {
            "qid": str(number), "title": name, "language": "Kotlin", "signature": f"fun {name}(items: List<Int>): Int",
            "arguments": ["items"], "source_py": head + body, "source_cpp": cpp,
            "question_info": {"test_code": "fun main() {}", "test_list": "[]", "test_case_ids": ["0"]},
        },
        "BabelCode questions": {
            "id": str(number), "title": name.title(), "solution": head + body, "testing_code": "\n".join(tests),
            "entry_fn_name": name, "other_lang_solutions": {"C++": cpp},
        },
        "MultiPL-E": {
            "name": f"HumanEval_{number}_{name}", "language": "rs", "doctests": "transform", "original": "humaneval.py",
            "prompt": f"/// {told}\nfn {name}(items: Vec<isize>) -> isize {{\n", "prompt_terminology": "reworded",
            "tests": "}\n\nfn main() {\n" + "\n".join(tests) + "\n}\n", "stop_tokens": ["\n}"],
        },
        "GSM8K": {"question": told, "answer": f"{_say(random, 1)} That is 6*7=<<6*7=42>>42.\n#### 42"},
        "APPS": {
            "problem_id": number, "question": told, "solutions": json.dumps([head + body, _say(random, 1)]),
            "input_output": "{}", "difficulty": "interview", "url": "", "starter_code": "",
        },
        "MATH": {
            "problem": f"{told} Find $x$ such that $x^{random.randrange(3, 9)} = {random.randrange(10**6)}$.",
            "level": "Level 4", "type": "Algebra", "solution": f"{_say(random, 2)} Hence \\boxed{{{number}}}.",
        },
        "MATH-500": {
            "problem": f"{told} Compute $\\dbinom{{{random.randrange(9, 99)}}}{{2}}$.", "solution": _say(random, 2),
            "answer": "28", "subject": "Precalculus", "level": 2, "unique_id": f"test/precalculus/{number}.json",
        },
    }  # fmt: skip
    return rows[kind]


KINDS = (
    "HumanEval", "HumanEval-Infilling", "MBPP", "DS-1000", "SAFIM", "CrossCodeEval", "BabelCode",
    "BabelCode-TransCoder", "BabelCode questions", "MultiPL-E", "GSM8K", "APPS", "MATH", "MATH-500",
)  # fmt: skip
