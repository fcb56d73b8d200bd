"""Finds mistakes of syntax and repairs them with the reason: by parsing, so that each repair is known to parse.

**In**: a program.
**Out**: `Mistake`s, each with place, reason and repair; the repaired program where all could be repaired.
**Not**: what parses and is wrong all the same.

In Python, small edits near the place where the parser gives up are tried, and the one after which it gets furthest is
taken. Of other languages tree-sitter tells what is missing or cannot be read.
"""

import difflib
import io
import keyword
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

from codegemma.errors import InputError
from codegemma.text.languages import LANGUAGES, NAMES_ELSEWHERE
from codegemma.text.python_source import parse_quietly
from codegemma.text.syntax import parse_source

_MAX_MISTAKES = 20
_MAX_CHARS = 20_000
# A line that is longer nobody wrote: there are too many ways to change it.
_MAX_LINE_CHARS = 400
# What may be parsed for one text, all tries taken together: some seconds. A try parses the whole text.
_MAX_PARSED_CHARS = 400_000
_OPENERS = re.compile(r"^\s*(?:async\s+)?(if|elif|else|for|while|def|class|try|except|finally|with|match|case)\b")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_KEYWORDS = [word for word in keyword.kwlist if len(word) > 2]
# Other languages' spellings, with why Python does not read them.
_FOREIGN = (
    (r"\belse\s+if\b", "elif", "Python writes `else if` in one word: `elif`"),
    (r"&&", " and ", "Python writes `and` for `&&`"),
    (r"\|\|", " or ", "Python writes `or` for `||`"),
    (r"!(?![=])\s*", "not ", "Python writes `not` for `!`"),
    (r"(\w+)\s*\+\+", r"\1 += 1", "Python has no `++`; `+= 1` adds one"),
    (r"(\w+)\s*--", r"\1 -= 1", "Python has no `--`; `-= 1` takes one away"),
    (r"\b(?:var|let|const)\s+(?=\w+\s*=)", "", "Python needs no word before a new variable"),
    (r"\bfunction\s+(?=\w+\s*\()", "def ", "a function begins with `def`"),
    (r"\bnull\b", "None", "Python calls it `None`"),
    (r"\btrue\b", "True", "Python writes `True` with a capital"),
    (r"\bfalse\b", "False", "Python writes `False` with a capital"),
    (r"//.*$", "", "a comment begins with `#`"),
    (r"[“”]", '"', "typographic quotes are no quotes to Python"),
    (r"[‘’]", "'", "typographic quotes are no quotes to Python"),
    (r"^(\s*)print\s+([^(\s].*)$", r"\1print(\2)", "`print` is a function: what it prints stands in brackets"),
    (r"^(\s*(?:if|elif|while)\b[^=\n]*[^=!<>\n])=(?!=)", r"\1==", "`=` gives a name its value; `==` compares"),
    (r"\s*\{\s*$", ":", "a block begins with `:` and is indented; Python needs no `{`"),
    (r"^\s*\}\s*$", "", "a block ends where the indentation ends; Python needs no `}`"),
    (r";\s*$", "", "a line needs no `;` at its end"),
    (r"=>", ">=", "at least is written `>=`"),
    (r"=<", "<=", "at most is written `<=`"),
)


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake at a line, counted from 1: what the parser says, why it is one, and the line as it should be."""

    line: int
    said: str
    reason: str
    repair: str | None = None


@dataclass(frozen=True, slots=True)
class Correction:
    """All mistakes that were found; `text` parses, or is `None` where not all could be repaired."""

    mistakes: tuple[Mistake, ...]
    text: str | None


def correct_syntax(text: str, language: str = "python") -> Correction:
    r"""Find and repair mistakes of syntax.

    >>> found = correct_syntax("def f(x)\n    if x = 1:\n        return 'a'\n")
    >>> [(m.line, m.reason) for m in found.mistakes]
    [(1, 'a line that begins a block ends with `:`'), (2, '`=` gives a name its value; `==` compares')]
    >>> print(found.text)
    def f(x):
        if x == 1:
            return 'a'
    <BLANKLINE>

    Raises:
        InputError: a language that is not parsed here, or a text that is too long.
    """
    name = NAMES_ELSEWHERE.get(language.lower(), language.lower())
    if name not in LANGUAGES:
        raise InputError(f"language is {language!r}; parsed here are {', '.join(LANGUAGES)}")
    if len(text) > _MAX_CHARS:
        raise InputError(f"the text has {len(text):,} characters; at most {_MAX_CHARS:,} are corrected")
    if name != "python":
        return _list_errors(text, name)
    mistakes: list[Mistake] = []
    tries = iter(range(_MAX_PARSED_CHARS // (len(text) + 1)))
    while (error := _parse(text)) is not None:
        repaired = _repair(text, error, tries) if len(mistakes) < _MAX_MISTAKES else None
        if repaired is None:
            mistakes.append(Mistake(error[0], error[1], _explain_message(error[1])))
            return Correction(tuple(mistakes), None)
        text, mistake = repaired
        mistakes.append(mistake)
    return Correction(tuple(mistakes), text)


def _parse(text: str) -> tuple[int, str] | None:
    """Parse, and tell the line and the words of what is wrong."""
    try:
        parse_quietly(text)
    except SyntaxError as error:
        return max(error.lineno or 1, 1), str(error.msg)
    except (ValueError, RecursionError, MemoryError) as error:
        return 1, str(error) or type(error).__name__
    return None


def _repair(text: str, error: tuple[int, str], tries: Iterator[int]) -> tuple[str, Mistake] | None:
    """Take the edit after which the parser gets furthest; of equals the first, which is the most likely."""
    lines = text.split("\n")
    best: tuple[float, str, Mistake] | None = None
    for (number, line, reason), _ in zip(_propose(lines, error[0]), tries, strict=False):
        edited = [*lines[: number - 1], line, *lines[number:]]
        after = _parse("\n".join(edited))
        if after == error:
            continue
        reach = float("inf") if after is None else after[0] + (0.5 if after[1] != error[1] else 0)
        if best is None or reach > best[0]:
            best = reach, "\n".join(edited), Mistake(number, error[1], reason, line)
    return None if best is None else (best[1], best[2])


def _propose(lines: list[str], at: int) -> Iterator[tuple[int, str, str]]:
    """Propose edits at the line of the error and just before it: `(line number, new line, reason)`."""
    short = [n for n in range(max(at - 20, 1), min(at + 1, len(lines)) + 1) if len(lines[n - 1]) <= _MAX_LINE_CHARS]
    near = [n for n in (at, at - 1, at - 2, at + 1) if n in short]
    for number in near:
        line = lines[number - 1]
        code, comment = _split_comment(line)
        if _OPENERS.match(code) and not code.rstrip().endswith(":"):
            yield number, code.rstrip() + ":" + comment, "a line that begins a block ends with `:`"
        for pattern, instead, reason in _FOREIGN:
            changed = re.sub(pattern, instead, code)
            if changed != code:
                changed += comment
                yield number, changed, reason
                opened, _ = _split_comment(changed)
                if _OPENERS.match(opened) and not opened.rstrip().endswith(":"):
                    yield number, opened.rstrip() + ":" + comment, reason
        yield from _propose_words(number, line)
        yield from _propose_brackets(number, code, comment)
        yield from _propose_indents(number, line, lines)
    for number in (n for n in short if n < at and n not in near):
        code, comment = _split_comment(lines[number - 1])
        yield from _propose_brackets(number, code, comment)


def _propose_brackets(number: int, code: str, comment: str) -> Iterator[tuple[int, str, str]]:
    stripped = code.rstrip()
    yield from _propose_quotes(number, stripped, comment)
    missing, extra = _match_brackets(stripped)
    if missing:
        body, end = (stripped[:-1], ":") if stripped.endswith(":") else (stripped, "")
        yield number, f"{body}{missing}{end}{comment}", f"`{missing}` is missing: each bracket that is opened is closed"
        if _OPENERS.match(stripped) and not end:
            yield number, f"{body}{missing}:{comment}", f"`{missing}:` is missing: bracket and block"
    if extra is not None:
        without = stripped[:extra] + stripped[extra + 1 :] + comment
        yield number, without, f"this `{stripped[extra]}` closes a bracket that was not opened"
    yield from _propose_commas(number, stripped, comment)


def _match_brackets(code: str) -> tuple[str, int | None]:
    """Tell what closes the brackets that are left open, and where the first is closed that was not opened."""
    stack: list[str] = []
    extra = None
    for place, sign in enumerate(code):
        if sign in _PAIRS:
            stack.append(_PAIRS[sign])
        elif sign in _PAIRS.values():
            if stack and stack[-1] == sign:
                stack.pop()
            elif extra is None:
                extra = place
    return "".join(reversed(stack)), extra


def _propose_quotes(number: int, code: str, comment: str) -> Iterator[tuple[int, str, str]]:
    for quote in ('"', "'"):
        ends = [end for end in (")", "):", ":", "") if code.endswith(end)] if code.count(quote) % 2 else []
        for end in ends:
            head = code[: len(code) - len(end)]
            yield number, f"{head}{quote}{end}{comment}", f"a text that begins with {quote} ends with {quote}"


def _propose_commas(number: int, code: str, comment: str) -> Iterator[tuple[int, str, str]]:
    for match in re.finditer(r"(?<=[\w\]\)'\"])\s+(?=[\w\['\"])", code):
        if _match_brackets(code[: match.start()])[0]:
            changed = f"{code[: match.start()]}, {code[match.end() :]}{comment}"
            yield number, changed, "things in a list are separated by commas"


def _propose_words(number: int, line: str) -> Iterator[tuple[int, str, str]]:
    for match in re.finditer(r"[A-Za-z]{2,}", line):
        word = match[0]
        close = difflib.get_close_matches(word.lower(), _KEYWORDS, 1, 0.74)
        if close and close[0] != word and word not in keyword.kwlist:
            yield number, line[: match.start()] + close[0] + line[match.end() :], f"`{word}` is spelled `{close[0]}`"


def _propose_indents(number: int, line: str, lines: list[str]) -> Iterator[tuple[int, str, str]]:
    if not line.strip():
        return
    before = next((lines[n] for n in range(number - 2, -1, -1) if lines[n].strip()), "")
    indent = len(before) - len(before.lstrip())
    wanted = indent + 4 if before.rstrip().endswith(":") else indent
    reason = (
        "what belongs to a block is indented, by four blanks"
        if wanted > indent
        else "a line of the same block begins in the same column"
    )
    levels = {len(each) - len(each.lstrip()) for each in lines[: number - 1] if each.strip()}
    for width in [wanted, *sorted(levels, reverse=True)]:
        changed = " " * width + line.lstrip()
        if changed != line:
            yield number, changed, reason
    if line.startswith(" ") and number == 1:
        yield number, line.lstrip(), "the first line begins in the first column"
    if before.rstrip().endswith(":") and len(line) - len(line.lstrip()) <= indent:
        yield number, " " * (indent + 4) + "pass\n" + line, "a block is never empty; `pass` does nothing"


def _split_comment(line: str) -> tuple[str, str]:
    """Split a line before its comment, where the tokens tell; else it is all code."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(line).readline):
            if token.type == tokenize.COMMENT:
                head = line[: token.start[1]].rstrip()
                return head, line[len(head) :]
    except (tokenize.TokenError, SyntaxError):
        pass
    return line, ""


def _explain_message(said: str) -> str:
    if "unterminated" in said or "EOF" in said or "never closed" in said:
        return "something that was opened is not closed before the text ends"
    return "the parser cannot go on here; the mistake is on this line or just before it"


def _list_errors(text: str, language: str) -> Correction:
    source = text.encode("utf-8", "replace")
    tree = parse_source(source, language)
    if tree is None:
        return Correction((Mistake(1, "not parsed", "the text takes too many steps to parse"),), None)
    mistakes, waiting = list[Mistake](), [tree.root_node]
    while waiting and len(mistakes) < _MAX_MISTAKES:
        node = waiting.pop()
        line = node.start_point[0] + 1
        if node.is_missing:
            mistakes.append(Mistake(line, f"missing {node.type}", f"`{node.type}` is missing here"))
        elif node.is_error:
            shown = source[node.start_byte : node.end_byte].decode("utf-8", "replace").strip().split("\n")[0][:60]
            mistakes.append(Mistake(line, "unexpected", f"`{shown}` cannot stand here"))
        elif node.has_error:
            waiting += reversed(node.children)
    return Correction(tuple(sorted(mistakes, key=lambda mistake: mistake.line)), None if mistakes else text)
