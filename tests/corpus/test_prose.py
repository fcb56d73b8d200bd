"""Documents that are no prose are dropped with the rule and the measured value; prose of every kind stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.corpus.sentences import ENGLISH

from codegemma.corpus.english import English
from codegemma.corpus.prose import PROSE_RULES, Prose, share_common_run, share_repeated_runs
from codegemma.corpus.quality import Defect, find_document_defect
from codegemma.corpus.quality_rules import load_quality_rules
from codegemma.errors import InputError
from codegemma.records import SourceFile, SourceKind

TABLES = ("text", "markdown", "math", "synthetic")
PROSE = "\n\n".join(ENGLISH[:12])
BREAD = "Mix the flour with the water, the salt and the yeast, and let the dough rest for an hour before you shape it."
MANUAL = f"""# Getting started

{ENGLISH[16]}

## Options

| name | meaning |
|---|---|
| `--port` | where the server listens |
| `--host` | what it binds to |

```python
server = Server(port=8080)
server.run()
```

- {ENGLISH[19]}
- {ENGLISH[17]}
"""
MATHS = r"""Let $f(x) = x^2 - 4x + 7$. What is the least value of $f(x)$?

We complete the square: \[f(x) = x^2 - 4x + 4 + 3 = (x - 2)^2 + 3.\] Since $(x-2)^2 \ge 0$ for all real $x$,
the least value is $\boxed{3}$, which is taken at $x = 2$.
"""
SUMS = "Anna has 12 apples and gives a third of them away. How many are left?\n\n12 / 3 = 4\n12 - 4 = 8\n#### 8\n"
TASK = f"""{ENGLISH[18]}

```python
def keep_palindromes(words):
    return [word for word in words if word == word[::-1]]
```

The slice with a step of -1 turns a word around, so the comparison holds for palindromes only.
"""
WORDS = ("alpha", "bravo", "carol", "delta", "early", "fixed", "gamma", "hotel", "index", "joint", "known", "later")


def vary(count: int, text: str = "the {0} of {1} and {2} is to be {3} number {4}.") -> list[str]:
    """Sentences that do not repeat each other."""
    n = len(WORDS)
    return [
        text.format(WORDS[i % n], WORDS[(i * 5 + 1) % n], WORDS[(i // n + 3) % n], WORDS[(i * 7 + i // n) % n], i)
        for i in range(count)
    ]


# Reason -> table and text.
BAD = {
    "boilerplate": ("text", PROSE + "\n\n" + "\n".join(f"This page uses cookies, see {i}." for i in range(9))),
    "few_words": ("text", ENGLISH[0]),
    "word_length": ("text", "Notwithstanding responsibilities, representatives congratulated administrators. " * 12),
    "few_alphabetic_words": ("text", "\n".join(f"{line} {i} 12 3.5 17" for i, line in enumerate(vary(30)))),
    "symbols": ("text", "\n".join(vary(20, "the #{0} of #{1} and #{2} is to be #{3}."))),
    "bullet_list": ("text", "\n".join(f"- {line}" for line in vary(20))),
    "cut_lines": ("text", "\n".join(vary(20, "the {0} of {1} and {2} is to be {3} within the chapter…"))),
    "short_lines": ("text", "\n".join(f"The {word} of {other}." for word in WORDS for other in WORDS[:5])),
    "unpunctuated": ("text", "\n".join(line.rstrip(".") for line in vary(20))),
    "no_stop_words": ("text", "\n".join(vary(20, "our {0} lets every {1} use some {2} or {3} no {4}."))),
    "repeated_lines": ("text", PROSE + f"\n{BREAD}" * 12),
    "repeated_words": ("text", PROSE + f" {BREAD}" * 6),
}


def judge(text: str, table: str, english: English = English.LIKELY) -> Defect | None:
    return find_document_defect(text, load_quality_rules().of(table), english)


def test_every_rule_has_a_bad_example() -> None:
    assert set(BAD) == set(PROSE_RULES)


@pytest.mark.parametrize("reason", BAD)
def test_bad_document_is_refused_for_its_reason_with_a_measured_value(reason: str) -> None:
    table, text = BAD[reason]
    defect = judge(text, table)
    assert defect is not None
    assert defect.reason == reason
    assert any(character.isdigit() for character in defect.detail)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("text", PROSE),
        ("text", PROSE.replace(", ", ",\n")),  # wrapped by hand
        ("markdown", MANUAL),
        ("math", MATHS),
        ("math", SUMS),
        ("synthetic", TASK),
        ("synthetic", MANUAL),
    ],
)
def test_ordinary_document_passes_in_english_too(table: str, text: str) -> None:
    assert judge(text, table, English.SURE) is None


def test_formulas_and_sums_are_no_prose_but_mathematics() -> None:
    for text in (MATHS, SUMS):
        assert judge(text, "text") is not None


def test_one_line_of_excuses_drops_what_a_model_wrote_and_leaves_a_page_about_it() -> None:
    excuse = "As an AI language model, I can not run this program."
    assert judge(f"{TASK}\n{excuse}\n", "synthetic") == Defect(
        "boilerplate", "0.1429 share of lines of boilerplate, at most 0"
    )
    assert judge(f"{PROSE}\n\n{excuse}\n", "text") is None


def test_a_text_in_another_language_is_told_so_rather_than_what_rule_of_prose_it_breaks() -> None:
    defect = judge(
        "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。" * 9,
        "text",
        English.LIKELY,
    )
    assert defect is not None
    assert defect.reason == "not_english"


@pytest.mark.parametrize(
    ("kind", "language", "table"),
    [
        (SourceKind.TEXT, "text", "text"),
        (SourceKind.TEXT, "markdown", "markdown"),
        (SourceKind.MATHEMATICS, "text", "math"),
        (SourceKind.SYNTHETIC, "markdown", "synthetic"),
        (SourceKind.SYNTHETIC, "python", "python"),
        (SourceKind.CODE, "go", "go"),
    ],
)
def test_documents_have_the_table_of_their_kind_and_code_that_of_its_language(kind, language, table) -> None:
    rules = load_quality_rules()
    assert rules.of_file(SourceFile("r", "p", language, "", "0", kind=kind)) == rules.of(table)


@pytest.mark.parametrize(
    ("key", "limit", "beyond", "text"),
    [
        ("min_words", 4, 5, "a b c d"),
        ("max_word_chars", 3.0, 2.9, "abc def"),
        ("min_word_chars", 3.0, 3.1, "abc def"),
        ("min_alphabetic_word_share", 0.5, 0.6, "abc 12 d 34"),
        ("min_stop_words", 2, 3, "The end of the"),
        ("max_symbols_per_word", 0.5, 0.4, "# a # b"),
        ("max_bullet_line_share", 0.5, 0.4, "- a\nb"),
        ("max_ellipsis_line_share", 0.5, 0.4, "a...\nb"),
        ("min_punctuated_line_share", 0.5, 0.6, "a.\n\nb"),
        ("max_short_line_share", 0.5, 0.4, "It is\nthe end of all that we have seen."),
        ("max_boilerplate_line_share", 0.5, 0.4, "Lorem ipsum\nb"),
        ("max_repeated_line_share", 0.5, 0.4, "ab\nab"),
        ("max_common_run_shares", [0.5], [0.4], "a b c a b d e f"),
        ("max_repeated_run_shares", [0.5], [0.4], "a b c d e a b c d e"),
    ],
)
def test_threshold_itself_is_allowed_and_no_more(tmp_path, key, limit, beyond, text) -> None:
    path = tmp_path / "quality.toml"
    for value, is_refused in ((limit, False), (beyond, True)):
        path.write_text(f"[default]\n{key} = {value}\n")
        defect = find_document_defect(text, load_quality_rules(str(path)).of("text"), English.LIKELY)
        assert (defect is not None) == is_refused


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(2, 6))
def test_repeated_runs_are_those_that_were_there_before(words: list[str], run_words: int) -> None:
    prose = Prose(" ".join(words))
    seen: set[tuple[str, ...]] = set()
    covered: set[int] = set()
    runs = [tuple(words[i : i + run_words]) for i in range(len(words) - run_words + 1)]
    for start, run in enumerate(runs):
        covered |= set(range(start, start + run_words)) if run in seen else set()
        seen.add(run)
    hashes = dict(prose.roll_runs(run_words))
    assert (run_words in hashes) == (len(words) >= 2 * run_words)
    if run_words in hashes:
        assert share_repeated_runs(hashes[run_words], run_words) == len(covered) / len(words)
        most = max(runs.count(run) for run in runs)
        assert share_common_run(hashes[run_words], run_words) == (
            min(most * run_words / len(words), 1) if most > 1 else 0
        )


@given(st.text(min_size=1), st.sampled_from(TABLES), st.integers(1, 300), st.sampled_from(English))
def test_any_text_can_be_judged(text: str, table: str, times: int, english: English) -> None:
    defect = judge(text * times, table, english)
    assert defect is None or defect.detail


def test_a_table_of_the_operator_takes_the_place_of_ours(tmp_path) -> None:
    path = tmp_path / "quality.toml"
    path.write_text("[text]\nmin_words = 2\n")
    rules = load_quality_rules(str(path))
    assert find_document_defect("Two words", rules.of("text"), English.ANY) is None
    path.write_text("[prose]\nmin_words = 2\n")
    with pytest.raises(InputError, match=r"\[prose\] names no language; known: .*math.*synthetic"):
        load_quality_rules(str(path))
