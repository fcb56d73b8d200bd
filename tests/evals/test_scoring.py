"""Teacher forcing and generation agree where they must, and nothing is counted that was not measured."""

import dataclasses
import math

import pytest
from tests.evals.byte_completer import NEWLINE, ByteCompleter
from tests.evals.subjects import make_subject, train_packs

from codegemma.evals.choices import EvalChoices
from codegemma.evals.examination import Examination
from codegemma.evals.heldout import Hole, HoleKind, make_holes
from codegemma.evals.lines import write_lines
from codegemma.evals.scoring import add_text, fit_window, read_first_line, score_holes, start_result
from codegemma.records import InfillMode, Request
from codegemma.runner import ignore_progress
from codegemma.text.control_tokens import EOS_ID, FILE_SEPARATOR_ID, RESERVED_IDS

CHOICES = EvalChoices(max_holes_per_kind=30)
ALL_MODES = pytest.mark.parametrize("mode", list(InfillMode))


def _ascii_holes() -> list[Hole]:
    """Training files: the completer knows many of these lines by heart. A byte a token: 64 bytes is the reserve."""
    return [h for h in make_holes(train_packs(), CHOICES) if h.middle.isascii() and len(h.middle) < 60]


@ALL_MODES
def test_teacher_forced_match_is_what_generation_writes_where_spelling_is_unique(mode: InfillMode) -> None:
    holes, subject = _ascii_holes(), make_subject()
    scored = score_holes(subject, holes, mode, CHOICES)
    asked = [Request(h.prefix, h.suffix, h.path, mode=mode, max_new_tokens=64) for h in holes]
    exam = Examination(subject, (), CHOICES, ignore_progress)
    requests = {str(number): fit_window(subject, request) for number, request in enumerate(asked)}
    texts, lack = write_lines(exam, requests, "write")
    assert lack == ""
    written = [texts[str(number)] == hole.middle for number, hole in enumerate(holes)]
    assert [r.exact_match for r in scored] == written
    assert 0 < sum(written) < len(written)


@ALL_MODES
def test_bits_are_those_of_the_model_behind_the_completer(mode: InfillMode) -> None:
    holes, subject = _ascii_holes(), make_subject()
    assert isinstance(subject.completer, ByteCompleter)
    expected = subject.completer.model.bits_of_middles([h.prefix for h in holes], [h.middle for h in holes])
    scored = score_holes(subject, holes, mode, CHOICES)
    assert [r.bits for r in scored] == pytest.approx(expected.tolist(), rel=1e-4)
    assert all(r.bits_with_stop > r.bits for r in scored if r.bits_with_stop is not None and r.bits is not None)


@pytest.mark.parametrize(
    ("end_id", "is_exact", "is_line"),
    [
        (FILE_SEPARATOR_ID, True, True),
        (EOS_ID, True, True),
        (NEWLINE + RESERVED_IDS, False, True),
        (ord("\r") + RESERVED_IDS, False, True),
        (ord("x") + RESERVED_IDS, False, False),
    ],
)
def test_exact_match_needs_an_end_and_line_match_a_line_end(end_id: int, is_exact: bool, is_line: bool) -> None:
    """A model that prefers `<eos>` to a separator after the middle stops there as well; one that goes on does not."""
    subject, holes = make_subject(), _ascii_holes()
    assert isinstance(subject.completer, ByteCompleter)
    reference = [r.exact_match for r in score_holes(subject, holes, InfillMode.PSM, CHOICES)]
    other = dataclasses.replace(subject, completer=ByteCompleter(subject.completer.model, end_id))
    results = score_holes(other, holes, InfillMode.PSM, CHOICES)
    assert any(reference)
    assert [r.line_match for r in results] == [is_line and match for match in reference]
    assert [r.exact_match for r in results] == [is_exact and match for match in reference]


def test_middle_longer_than_the_window_is_no_match_and_has_no_bits() -> None:
    subject = make_subject()
    small = dataclasses.replace(subject, max_context_tokens=40)
    hole = Hole("std", "a.py", 1, 1, HoleKind.LINE, "", "x" * 60, "\n")
    (result,) = score_holes(small, [hole], InfillMode.PSM, CHOICES)
    assert (result.exact_match, result.bits, result.bits_with_stop) == (False, None, None)
    assert fit_window(small, Request("", "", "very/long/path" * 9, max_new_tokens=10)) is None
    assert write_lines(Examination(small, (), CHOICES, ignore_progress), {"h": None}, "write") == ({"h": ""}, "")


def test_progress_reaches_the_total() -> None:
    reports: list[tuple[str, int, int | None]] = []
    holes = _ascii_holes()[:5]
    score_holes(make_subject(), holes, InfillMode.SPM, CHOICES, on_progress=lambda s, d, t: reports.append((s, d, t)))
    assert reports == [("score spm", 0, 5), ("score spm", 5, 5)]


@pytest.mark.parametrize(
    ("text", "line"),
    [("a\nb", "a"), ("a  \r\nb", "a"), ("\na", ""), ("", ""), ("a\x0cb\u2028c", "a\x0cb\u2028c"), ("a\rb", "a")],
)
def test_first_line_ends_where_a_line_of_code_ends(text: str, line: str) -> None:
    assert read_first_line(text) == line


@pytest.mark.parametrize(
    ("truth", "text", "is_match", "similarity"),
    [("return x", "return x", True, 1.0), ("abcd", "", False, 0.0), ("kitten", "sitting", False, 1 - 3 / 7)],
)
def test_written_line_is_compared_with_the_truth(truth: str, text: str, is_match: bool, similarity: float) -> None:
    hole = Hole("std", "a.py", 1, 1, HoleKind.LINE, "", truth, "")
    result = add_text(start_result(hole, "model"), truth, text)
    assert result.generated_match is is_match
    assert result.edit_similarity is not None
    assert math.isclose(result.edit_similarity, similarity)
