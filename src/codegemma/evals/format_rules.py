"""Instructions whose following a program can check: how an answer looks, not whether it is right.

**In**: an answer in Markdown.
**Out**: `FORMAT_RULES`: each with its words, a check, and an answer that follows it.
**Not**: a judge of content; a wrong program in the right form follows the instruction.

The idea is IFEval's (Zhou et al., 2311.07911), the rules are ours and about code.
"""

import ast
import io
import json
import re
import tokenize
from collections.abc import Callable
from dataclasses import dataclass

from codegemma.evals.fences import extract_code, names_language
from codegemma.text.markdown import find_fences
from codegemma.text.python_source import parse_python

_SNAKE = re.compile(r"_{0,2}[a-z][a-z0-9]*(?:_[a-z0-9]+)*_{0,2}$")
_WORD = re.compile(r"\S+")
_ADD = "def add(first, second):\n    return first + second\n"
_FENCED = f"```python\n{_ADD}```"


@dataclass(frozen=True, slots=True)
class FormatRule:
    """One instruction: its words, its check, and a short answer that follows it."""

    name: str
    words: str
    check: Callable[[str], bool]
    example: str


def _parse(text: str) -> ast.Module | None:
    return parse_python(extract_code(text).code)


def _list_functions(text: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = _parse(text)
    return [] if tree is None else [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]


def _has_one_fence(text: str, language: str) -> bool:
    fences = find_fences(text)
    return len(fences) == 1 and names_language(fences[0], language) and bool(fences[0].code.strip())


def _is_fence_alone(text: str) -> bool:
    lines = text.strip().splitlines()
    return len(find_fences(text)) == 1 and len(lines) > 2 and lines[0].startswith("```") and lines[-1].strip() == "```"


def _has_no_comment(text: str) -> bool:
    tree = _parse(text)
    if tree is None or not tree.body:
        return False
    reader = io.StringIO(extract_code(text).code).readline
    try:
        return all(token.type != tokenize.COMMENT for token in tokenize.generate_tokens(reader))
    except (tokenize.TokenError, SyntaxError):
        return False


def _has_comment_before_each_function(text: str) -> bool:
    lines = extract_code(text).code.splitlines()
    starts = [i for i, line in enumerate(lines) if re.match(r"\s*(?:async )?def ", line)]
    return bool(starts) and all(i > 0 and lines[i - 1].lstrip().startswith("#") for i in starts)


def _has_docstrings(text: str) -> bool:
    functions = _list_functions(text)
    return bool(functions) and all(ast.get_docstring(function) for function in functions)


def _is_annotated(text: str) -> bool:
    functions = _list_functions(text)
    return bool(functions) and all(
        f.returns is not None
        and all(a.annotation is not None for a in (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs))
        for f in functions
    )


def _is_snake(text: str) -> bool:
    tree = _parse(text)
    if tree is None:
        return False
    names = [f.name for f in _list_functions(text)]
    names += [node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)]
    names += [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return bool(names) and all(_SNAKE.match(name) for name in names)


def _has_no_loop(text: str) -> bool:
    tree = _parse(text)
    loops = (ast.For, ast.AsyncFor, ast.While, ast.comprehension)
    return tree is not None and bool(tree.body) and not any(isinstance(node, loops) for node in ast.walk(tree))


def _has_no_import(text: str) -> bool:
    tree = _parse(text)
    imports = (ast.Import, ast.ImportFrom)
    return tree is not None and bool(tree.body) and not any(isinstance(node, imports) for node in ast.walk(tree))


def _is_json_with(text: str, keys: set[str]) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and found.keys() == keys


def _list_bullets(text: str) -> int | None:
    """Count bullets; `None` where anything else stands beside them."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return len(lines) if lines and all(re.match(r"- \S", line) for line in lines) else None


FORMAT_RULES = (
    FormatRule(
        "python_fence", "Answer with exactly one code block, marked as python.",
        lambda text: _has_one_fence(text, "python"), f"So:\n\n{_FENCED}\n",
    ),
    FormatRule(
        "javascript_fence", "Write it in JavaScript, in exactly one code block marked as javascript.",
        lambda text: _has_one_fence(text, "javascript"), "```javascript\nconst add = (a, b) => a + b;\n```",
    ),
    FormatRule(
        "fence_alone", "Write nothing before or after the one code block.", _is_fence_alone, _FENCED,
    ),
    FormatRule(
        "one_function", "Define exactly one function.", lambda text: len(_list_functions(text)) == 1, _FENCED,
    ),
    FormatRule(
        "two_functions", "Divide it into exactly two functions.", lambda text: len(_list_functions(text)) == 2,
        "```python\ndef a():\n    return b()\n\n\ndef b():\n    return 1\n```",
    ),
    FormatRule(
        "named_solve", "Name the function solve.",
        lambda text: any(f.name == "solve" for f in _list_functions(text)),
        "```python\ndef solve(x):\n    return x\n```",
    ),
    FormatRule("no_comments", "Write no comments in the code.", _has_no_comment, _FENCED),
    FormatRule(
        "comment_above", "Put a comment on the line above each function.", _has_comment_before_each_function,
        f"```python\n# Adds.\n{_ADD}```",
    ),
    FormatRule(
        "docstrings", "Give each function a docstring.", _has_docstrings,
        '```python\ndef one():\n    """Give 1."""\n    return 1\n```',
    ),
    FormatRule(
        "annotations", "Annotate each parameter and each result with its type.", _is_annotated,
        "```python\ndef add(first: int, second: int) -> int:\n    return first + second\n```",
    ),
    FormatRule("snake_case", "Spell names of functions, parameters and variables in snake_case.", _is_snake, _FENCED),
    FormatRule("no_loops", "Use no loop and no comprehension.", _has_no_loop, _FENCED),
    FormatRule("no_imports", "Import nothing.", _has_no_import, _FENCED),
    FormatRule(
        "short_code", "The code has at most 8 lines.",
        lambda text: 0 < len(extract_code(text).code.strip().splitlines()) <= 8, _FENCED,
    ),
    FormatRule(
        "json_alone", 'Answer with a JSON object alone, whose keys are exactly "code" and "why".',
        lambda text: _is_json_with(text, {"code", "why"}), '{"code": "x = 1", "why": "it is short"}',
    ),
    FormatRule(
        "three_bullets", "Do not write code: describe the steps in exactly three bullets, each on a line that begins "
        "with a hyphen and a space.", lambda text: _list_bullets(text) == 3, "- Read it.\n- Add it.\n- Give it back.",
    ),
    FormatRule(
        "few_words", "Do not write code: describe it in at most 40 words.",
        lambda text: 0 < len(_WORD.findall(text)) <= 40 and not find_fences(text), "It adds two numbers.",
    ),
    FormatRule(
        "last_words", 'End your answer with the words "That is all."',
        lambda text: text.rstrip().endswith("That is all."), f"{_FENCED}\n\nThat is all.",
    ),
)  # fmt: skip
BY_NAME = {rule.name: rule for rule in FORMAT_RULES}
# Pairs that one answer can follow: the second asks for more of the same code.
PAIRS = (
    ("python_fence", "docstrings"), ("fence_alone", "annotations"), ("one_function", "no_imports"),
    ("named_solve", "no_comments"), ("snake_case", "last_words"), ("short_code", "no_loops"),
)  # fmt: skip
TASKS = (
    "returns the sum of two numbers",
    "counts the vowels in a text",
    "tells whether a year is a leap year",
    "turns a text around",
    "returns the largest number of a list",
    "removes equal neighbours from a list",
    "converts degrees Celsius to Fahrenheit",
    "tells whether a text reads the same from both sides",
)


def is_followed_loosely(rule: FormatRule, text: str) -> bool:
    """Tell whether the answer follows a rule once its first line, its last or its asterisks are left out, as IFEval's.

    >>> is_followed_loosely(BY_NAME["json_alone"], 'Here it is:\\n{"code": "x", "why": "y"}')
    True
    """
    lines = text.strip().splitlines()
    cuts = [lines, lines[1:], lines[:-1], lines[1:-1]]
    texts = [text, *("\n".join(cut) for cut in cuts)]
    return any(rule.check(version) for found in texts for version in (found, found.replace("*", "")))
