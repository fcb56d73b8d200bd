r"""Where an answer is cut before it is run: named policies, all scored from the same generation.

**In**: a problem and the text that a model wrote until a control token or its budget.
**Out**: the text that is run.
**Not**: any knowledge of the true answer.

Published figures of the infilling sets differ by points through this choice alone, and the sets' authors left it open.
"""

import re
from collections.abc import Callable

from codegemma.evals.fences import extract_code
from codegemma.evals.problems import Problem
from codegemma.records import Extent, StopRules
from codegemma.text.brackets import find_closing_brace
from codegemma.text.languages import LANGUAGES
from codegemma.text.python_source import parse_python
from codegemma.text.stops import cut_text

# Chen et al. (2107.03374), section 2.2.
HUMANEVAL_STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
MBPP_STOPS = ("[DONE]",)
# A text that does not parse at all is looked at from its end; a program is short.
_MAX_LINES = 200

Policy = Callable[[Problem, str], str]


def keep_all(problem: Problem, text: str) -> str:  # noqa: ARG001 (a policy)
    """Run what was written up to the control token."""
    return text


def keep_first_line(problem: Problem, text: str) -> str:  # noqa: ARG001 (a policy)
    r"""Run the first line, with its end: what a single-line hole misses.

    >>> keep_first_line(None, "return x\nprint(x)")
    'return x\n'
    """
    line, end, _ = text.partition("\n")
    return line + (end or "\n")


def stop_at_words(problem: Problem, text: str) -> str:  # noqa: ARG001 (a policy)
    """Run what stands before the next definition, statement or comment at the left margin."""
    return cut_text(text, StopRules(strings=HUMANEVAL_STOPS)).text


def stop_at_done(problem: Problem, text: str) -> str:  # noqa: ARG001 (a policy)
    """Run what stands before the word that ends a shot of MBPP."""
    return cut_text(text, StopRules(strings=MBPP_STOPS)).text


def stop_at_suffix(problem: Problem, text: str) -> str:
    """Run what stands before the answer begins to repeat what follows the hole, as an editor does."""
    return cut_text(text, StopRules(prefix=problem.prefix, suffix=problem.suffix, language="python")).text


def stop_at_scope(problem: Problem, text: str) -> str:
    """Run what belongs to the scope in which the hole is, and does not repeat what follows."""
    rules = StopRules(prefix=problem.prefix, suffix=problem.suffix, language="python", extent=Extent.SCOPE)
    return cut_text(text, rules).text


def keep_parsing(problem: Problem, text: str) -> str:
    """Run the longest run of lines from the start with which the program parses; all where none does."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)[:_MAX_LINES]
    for count in range(len(lines), -1, -1):
        kept = "".join(lines[:count])
        if parse_python(problem.write_program(kept)) is not None:
            return kept
    return text


def keep_function(problem: Problem, text: str) -> str:
    r"""Run the rest of the function whose head ends the prompt, up to its closing brace or the end of its block."""
    if LANGUAGES[problem.language].is_indented:
        end = re.search(r"\n(?=[^\s#])", text)
        return text if end is None else text[: end.end()]
    brace = find_closing_brace(problem.prefix, text, problem.language)
    return text if brace is None else text[: brace + 1]


def take_block(problem: Problem, text: str) -> str:
    """Run the code that an answer of a conversation holds, by the rule of `fences.py`."""
    return extract_code(text, problem.language).code


def stop_at_published_words(problem: Problem, text: str) -> str:
    """Run what stands before a word that the benchmark's authors stop at, and the word where it closes the answer."""
    told = cut_text(text, StopRules(strings=problem.stops))
    if told.stop_reason is None or not problem.keeps_stop:
        return told.text
    return text[: len(told.text) + max(len(stop) for stop in problem.stops if text.startswith(stop, len(told.text)))]


POLICIES: dict[str, Policy] = {
    "all": keep_all,
    "first_line": keep_first_line,
    "stop_words": stop_at_words,
    "done": stop_at_done,
    "suffix": stop_at_suffix,
    "scope": stop_at_scope,
    "parses": keep_parsing,
    "function": keep_function,
    "fence": take_block,
    "published_stops": stop_at_published_words,
}
