"""How a solution ends, so that the scorers of GSM8K and MATH read its answer (`evals/language_tasks.py`).

**In**: a worked solution and its answer.
**Out**: the solution with the answer at its end.
**Not**: whether the answer is right.

lm-evaluation-harness looks for `#### 18` in GSM8K, and in MATH for Minerva's last sentence (Lewkowycz et al. 2022,
appendix D.2), which its four shots show.
"""

_GSM8K_MARK = "#### "


def end_as_gsm8k(solution: str, answer: str) -> str:
    r"""End a solution as GSM8K does.

    >>> end_as_gsm8k("9 + 9 = 18", "18")
    '9 + 9 = 18\n#### 18'
    """
    return f"{solution.rstrip()}\n{_GSM8K_MARK}{answer}"


def end_as_math(solution: str, answer: str) -> str:
    r"""End a solution as MATH is answered.

    >>> end_as_math("Half of it.", r"\frac{1}{2}")
    'Half of it.\nFinal Answer: The final answer is $\\frac{1}{2}$. I hope it is correct.'
    """
    return f"{solution.rstrip()}\nFinal Answer: The final answer is ${answer}$. I hope it is correct."


def split_gsm8k(answer: str) -> tuple[str, str] | None:
    r"""Divide a GSM8K answer into its steps and its number; `None` where it has no number.

    >>> split_gsm8k("9 + 9 = 18\n#### 18"), split_gsm8k("18")
    (('9 + 9 = 18', '18'), None)
    """
    steps, mark, number = answer.rpartition(_GSM8K_MARK)
    return (steps.strip(), number.strip()) if mark and steps.strip() and number.strip() else None


def find_boxed(solution: str) -> str | None:
    r"""Find what stands in the last `\boxed{...}` or `\boxed ...` of a solution; `None` without one, or if it is open.

    >>> find_boxed(r"so $x = \boxed{\frac{1}{2}}$."), find_boxed(r"$\boxed 4$"), find_boxed(r"\boxed{1")
    ('\\frac{1}{2}', '4', None)
    """
    start = max(solution.rfind(r"\boxed"), solution.rfind(r"\fbox"))
    if start < 0:
        return None
    rest = solution[start:].removeprefix(r"\boxed").removeprefix(r"\fbox").lstrip()
    if not rest.startswith("{"):
        return rest.partition("$")[0].strip() or None
    depth = 0
    for place, sign in enumerate(rest):
        depth += (sign == "{") - (sign == "}")
        if depth == 0:
            return rest[1:place].strip() or None
    return None
