r"""Takes the code out of a chat answer by one stated rule, and says which part of the rule it was.

**In**: an answer in Markdown, and the language that was asked for.
**Out**: `Extracted`: code and the rule that found it.
**Not**: repair: an unclosed fence ends with the answer, what is inside is taken as it is.

The rule: the last fenced block that names the language; else the longest fenced block; else the answer, if it parses as
the language or the language cannot be parsed here; else the answer all the same, marked as unparsable.
"""

from dataclasses import dataclass
from enum import StrEnum

from codegemma.text.markdown import Fence, find_fences
from codegemma.text.python_source import parse_python

_TAGS = {
    "python": frozenset({"python", "py", "python3"}),
    "javascript": frozenset({"javascript", "js"}),
    "json": frozenset({"json"}),
    "rust": frozenset({"rust", "rs"}),
    "go": frozenset({"go", "golang"}),
    "java": frozenset({"java"}),
}


class Rule(StrEnum):
    """Which part of the rule found the code."""

    TAGGED_FENCE = "tagged_fence"
    LONGEST_FENCE = "longest_fence"
    WHOLE_TEXT = "whole_text"
    UNPARSABLE_TEXT = "unparsable_text"


@dataclass(frozen=True, slots=True)
class Extracted:
    """Code, and how it was found."""

    code: str
    rule: Rule


def names_language(fence: Fence, language: str) -> bool:
    """Tell whether a fence says that it holds this language."""
    return fence.language in _TAGS.get(language, frozenset({language}))


def extract_code(text: str, language: str = "python") -> Extracted:
    r"""Extract the code of a language.

    >>> extract_code("```\nlonger than this\n```\n```python\nx = 1\n```\n")
    Extracted(code='x = 1\n', rule=<Rule.TAGGED_FENCE: 'tagged_fence'>)
    >>> extract_code("x = 1").rule, extract_code("It is x.").rule
    (<Rule.WHOLE_TEXT: 'whole_text'>, <Rule.UNPARSABLE_TEXT: 'unparsable_text'>)
    """
    fences = find_fences(text)
    if tagged := [fence for fence in fences if names_language(fence, language)]:
        return Extracted(tagged[-1].code, Rule.TAGGED_FENCE)
    if fences:
        return Extracted(max(fences, key=lambda fence: len(fence.code)).code, Rule.LONGEST_FENCE)
    parses = language != "python" or parse_python(text) is not None
    return Extracted(text, Rule.WHOLE_TEXT if parses else Rule.UNPARSABLE_TEXT)
