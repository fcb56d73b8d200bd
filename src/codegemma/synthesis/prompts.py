"""What models are asked, and how their answers are read.

**In**: a seed, or a draft.
**Out**: the words of a question; of an answer a `Draft` or `Scores`, or that it cannot be read.
**Not**: any belief in an answer. Whoever changes a word here raises `PROMPT_VERSION`, which every record carries.

The first question follows OSS-Instruct (Wei et al., 2024, section 2): a snippet inspires, the problem stands alone.
"""

import re

from codegemma.evals.fences import extract_code
from codegemma.synthesis.choices import BEST_SCORE
from codegemma.synthesis.outcomes import Draft, Drop, Reason, Scores, Seed
from codegemma.text.markdown import find_fences

PROMPT_VERSION = 1

_WRITE = """Be inspired by this piece of {language} code and write one new programming exercise with its solution.

```{language}
{text}
```

The exercise must be complete without the piece above: do not mention it, its project or its names. It asks for one \
Python function, or a few, that compute a result from their arguments: no files, no network, no input, no clock, no \
chance, nothing but the standard library. Answer with exactly three parts under these headings:

## Problem
What is asked, in words that leave nothing open: the function's name and parameters, what it returns, what happens at \
the edges, one or two examples.

## Solution
```python
The whole program.
```

## Tests
```python
At least six plain assertions on the functions, edges included, such as: assert f([]) == 0
```
"""

_JUDGE = """Judge an exercise for people who learn to program in Python, and its solution.

# The exercise
{problem}

# The solution
```python
{solution}
```

# Its tests, which the solution passes
```python
{tests}
```

Helpfulness: is the exercise clear, complete without anything else, and worth doing, and the solution well written? \
Correctness: does the solution do what the words ask, in all cases and not only in those tested, and do the tests ask \
for what the words say? 1 is worst, {best} is best. Reply with one sentence of reasons, and then these two lines:
Helpfulness: <1-{best}>
Correctness: <1-{best}>"""

_HEADING = re.compile(r"^\W*(problem|solution|tests?)\b[^a-z0-9]*(?:description|code|cases)?\W*$", re.IGNORECASE)
_HELPFULNESS = re.compile(rf"helpfulness\W{{1,6}}([1-{BEST_SCORE}])(?!\d|\.\d)", re.IGNORECASE)
_CORRECTNESS = re.compile(rf"correctness\W{{1,6}}([1-{BEST_SCORE}])(?!\d|\.\d)", re.IGNORECASE)
_MAX_WORDS_CHARS = 1000
_SHOWN_CHARS = 200


def ask_for_draft(seed: Seed) -> str:
    """Ask for a problem, its solution and tests."""
    return _WRITE.format(language=seed.language, text=seed.text)


def ask_for_scores(draft: Draft) -> str:
    """Ask what a draft is worth."""
    return _JUDGE.format(problem=draft.problem, solution=draft.solution, tests=draft.tests, best=BEST_SCORE)


def read_draft(answer: str) -> Draft | Drop:
    r"""Read the three parts.

    >>> read_draft("## Problem\nAdd.\n## Solution\n```python\nx\n```\n## Tests\n```python\ny\n```\n")
    Draft(problem='Add.', solution='x\n', tests='y\n')
    >>> read_draft("I am sorry.")
    Drop(reason=<Reason.UNREADABLE: 'unreadable'>, detail="no problem, solution, tests: 'I am sorry.'")
    """
    parts = _split(answer)
    code = {name: extract_code(parts.get(name, "")).code for name in ("solution", "tests") if _has_code(parts, name)}
    problem = parts.get("problem", "").strip()
    missing = [
        name for name, text in (("problem", problem), *((n, code.get(n, "")) for n in ("solution", "tests")))
        if not text.strip()
    ]  # fmt: skip
    if missing:
        return Drop(Reason.UNREADABLE, f"no {', '.join(missing)}: {answer[:_SHOWN_CHARS]!r}")
    if any("\ud800" <= sign <= "\udfff" for sign in answer):
        return Drop(Reason.UNREADABLE, "text that is not UTF-8")
    return Draft(problem, code["solution"], code["tests"])


def _has_code(parts: dict[str, str], name: str) -> bool:
    return bool(find_fences(parts.get(name, "")))


def _split(answer: str) -> dict[str, str]:
    """Give the text below each heading, the first of its name; inside a fence there are no headings."""
    parts: dict[str, list[str]] = {}
    current: list[str] = []
    is_fenced = False
    for line in answer.splitlines(keepends=True):
        if line.lstrip().startswith("```"):
            is_fenced = not is_fenced
        heading = None if is_fenced else _HEADING.match(line.strip())
        if heading:
            name = heading[1].lower()
            current = []
            parts.setdefault("tests" if name == "test" else name, current)
        else:
            current.append(line)
    return {name: "".join(lines) for name, lines in parts.items()}


def read_scores(answer: str) -> Scores | Drop:
    r"""Read the last score of each kind.

    >>> read_scores("Clear.\nHelpfulness: 4\n**Correctness**: 5")
    Scores(helpfulness=4, correctness=5, words='Clear.\nHelpfulness: 4\n**Correctness**: 5')
    >>> read_scores("Looks good to me: 10/10").reason
    <Reason.NO_VERDICT: 'no_verdict'>
    """
    helpfulness, correctness = _HELPFULNESS.findall(answer), _CORRECTNESS.findall(answer)
    if not helpfulness or not correctness:
        return Drop(Reason.NO_VERDICT, answer[:_MAX_WORDS_CHARS])
    return Scores(int(helpfulness[-1]), int(correctness[-1]), answer.strip()[:_MAX_WORDS_CHARS])
