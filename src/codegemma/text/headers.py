"""Settles by its text which language a file is in where its path leaves a choice: a `.h` of C or of C++.

**In**: a path, the language that it says, and the text.
**Out**: the language, for at most two parses of the text's beginning.
**Not**: Objective-C, whose headers err in both grammars; files that neither path nor first line tell anything about:
guessing those by their words is wrong too often to train on.
"""

import re
from typing import Final

from codegemma.text.languages import LANGUAGES, Language, has_grammar, read_mode_line
from codegemma.text.syntax import measure_errors

# What a path leaves open: its extension, what it says, and what it may be.
OPEN_EXTENSION: Final = ".h"
CANDIDATES: Final = ("c", "cpp")
# Enough to see the difference; two parses of so much take some milliseconds.
MAX_PARSED_CHARS: Final = 32_768
# Begins a line of C++ only, unless a condition on `__cplusplus` is around it.
STRONG_EVIDENCE: Final = re.compile(
    r"""^[ \t]*+(?:template[ \t]*+<|namespace\b[^;(\n]*+\{?+$|using[ \t]++(?:namespace\b|\w++[ \t]*+=)
      | class[ \t]++\w[^;(*\n]*+$|(?:public|private|protected)[ \t]*+:)""",
    re.MULTILINE | re.VERBOSE,
)
# May be C, or words in a comment.
WEAK_EVIDENCE: Final = re.compile(
    r"\w::~?\w|\b(?:template|class|namespace|virtual|constexpr|nullptr|noexcept|operator|static_cast|explicit)\b"
    r"|\w&{1,2} \w++[,)]|#include <\w++>"
)
# Macros make both grammars err a little; what is C++ errs in C's by more than this, and by twice as much.
MAX_C_ERROR_SHARE: Final = 0.02
# Above this a grammar has lost its way and says nothing.
MAX_TELLING_ERROR_SHARE: Final = 0.5


def list_candidates(path: str, language: Language) -> tuple[Language, ...]:
    """List what a file may turn out to be.

    >>> [language.name for language in list_candidates("a.h", LANGUAGES["c"])]
    ['c', 'cpp']
    """
    if not path.lower().endswith(OPEN_EXTENSION):
        return (language,)
    return tuple(LANGUAGES[name] for name in CANDIDATES)


def settle_language(path: str, language: Language, text: str) -> Language:
    r"""Choose among the candidates: by mode line, by what only C++ has, and in doubt by the grammar that errs less.

    >>> settle_language("a.h", LANGUAGES["c"], "template <typename T>\nT f(T);\n").name
    'cpp'
    >>> settle_language("a.h", LANGUAGES["c"], "/* a class of its own */\nint f(void);\n").name
    'c'
    """
    if len(list_candidates(path, language)) == 1:
        return language
    c, cpp = (LANGUAGES[name] for name in CANDIDATES)
    mode = read_mode_line(text.partition("\n")[0])
    if mode in (c, cpp):
        return mode
    head = text[:MAX_PARSED_CHARS]
    is_strong = STRONG_EVIDENCE.search(head) is not None
    if is_strong and "__cplusplus" not in head:
        return cpp
    if not (is_strong or WEAK_EVIDENCE.search(head)) or not (has_grammar("c") and has_grammar("cpp")):
        return c
    c_share, cpp_share = measure_errors(head, "c"), measure_errors(head, "cpp")
    if min(c_share, cpp_share) > MAX_TELLING_ERROR_SHARE:
        return cpp if is_strong else c
    return cpp if c_share > MAX_C_ERROR_SHARE and cpp_share < c_share / 2 else c
