"""Holes are cut where a cursor can be, spread over files, and the same in every run."""

import dataclasses
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evals.subjects import heldout_packs, train_packs
from tests.feed.packs import make_file

from codegemma.evals.choices import EvalChoices
from codegemma.evals.heldout import Hole, HoleKind, make_holes
from codegemma.records import Pack, SourceKind, Split

CHOICES = EvalChoices()


def _cut_text(text: str) -> list[Hole]:
    return make_holes([Pack("p", "repo", None, Split.HELDOUT, (make_file("a.py", text),))], CHOICES)


lines = st.text(st.sampled_from("ab =()#\t𝄞ß\f"), max_size=12)
line_ends = st.sampled_from(["\n", "\r\n", "\r", "\n\n"])


@given(st.lists(st.tuples(lines, line_ends), max_size=8))
def test_parts_give_the_file_back_and_the_middle_is_a_line_content(parts: list[tuple[str, str]]) -> None:
    text = "".join(line + end for line, end in parts)
    for hole in _cut_text(text):
        assert hole.prefix + hole.middle + hole.suffix == text
        assert len(hole.middle) >= CHOICES.min_middle_chars
        assert hole.middle == hole.middle.rstrip()
        assert "\n" not in hole.middle
        assert "\r" not in hole.middle
        assert hole.suffix.lstrip(" \t\f")[:1] in ("", "\n", "\r")
        before_cursor = hole.prefix.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert (hole.line, hole.column) == (len(before_cursor), len(before_cursor[-1]) + 1)
        assert not (before_cursor[-1] + hole.middle).strip().startswith("#")
        assert (not before_cursor[-1].strip()) == (hole.kind is HoleKind.LINE)


def test_blank_lines_comments_and_short_and_endless_lines_get_no_hole() -> None:
    assert _cut_text("\n  \n# a comment\n    # another\nx\n)]\n" + "y" * 121 + "\n") == []


def test_trailing_white_space_belongs_to_the_suffix() -> None:
    (hole,) = [h for h in _cut_text("    return 1  \n") if h.kind is HoleKind.LINE]
    assert (hole.prefix, hole.middle, hole.suffix) == ("    ", "return 1", "  \n")


def test_no_file_gives_a_second_hole_before_every_file_gave_one() -> None:
    files = {file.path for pack in train_packs() for file in pack.files}
    for count in (len(files), 3 * len(files)):
        holes = make_holes(train_packs(), dataclasses.replace(CHOICES, max_holes_per_kind=count))
        for kind in HoleKind:
            counts = Counter(hole.path for hole in holes if hole.kind is kind)
            assert set(counts) == files
            assert max(counts.values()) == count // len(files)


def test_shorter_list_is_the_beginning_of_the_longer_one() -> None:
    many, few = (
        [h for h in make_holes(train_packs(), dataclasses.replace(CHOICES, max_holes_per_kind=n)) if h.kind == "line"]
        for n in (60, 25)
    )
    assert many[:25] == few


def test_order_of_packs_and_of_files_does_not_matter_and_the_seed_does() -> None:
    holes = make_holes(heldout_packs(), CHOICES)
    turned = tuple(dataclasses.replace(p, files=p.files[::-1]) for p in heldout_packs()[::-1])
    assert make_holes(turned, CHOICES) == holes
    assert make_holes(heldout_packs(), dataclasses.replace(CHOICES, seed=1)) != holes


def test_cursor_is_uniform_within_the_line() -> None:
    """1,000 lines of 13 characters: cuts 1 to 10 leave at least 3, each is drawn about 100 times."""
    text = "".join(f"value{i:08d}\n" for i in range(1000))
    choices = dataclasses.replace(CHOICES, max_holes_per_file=1000)
    pack = Pack("p", "repo", None, Split.HELDOUT, (make_file("a.py", text),))
    columns = Counter(h.column for h in make_holes([pack], choices) if h.kind is HoleKind.REST_OF_LINE)
    assert set(columns) == set(range(2, 12))
    assert all(60 <= n <= 145 for n in columns.values())


def test_cap_of_a_file_holds() -> None:
    holes = make_holes(heldout_packs(), dataclasses.replace(CHOICES, max_holes_per_file=7))
    assert max(Counter((h.path, h.kind) for h in holes).values()) == 7


@pytest.mark.parametrize(
    "wrong", [{"min_middle_chars": 0}, {"max_middle_chars": 2}, {"generated_holes": -1}, {"limit": 0}]
)
def test_choices_that_ask_for_nothing_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        dataclasses.replace(CHOICES, **wrong)  # type: ignore[arg-type]


def test_documents_get_no_hole_as_in_training() -> None:
    document = dataclasses.replace(make_file("a.md", "A line of a manual.\n" * 9), language="markdown")
    packs = heldout_packs()
    mixed = [*packs, Pack("p", "repo", None, Split.HELDOUT, (document,), SourceKind.TEXT)]
    assert make_holes(mixed, CHOICES) == make_holes(packs, CHOICES)


def test_hole_ids_are_unique() -> None:
    ids = [hole.hole_id for hole in make_holes([*train_packs(), *heldout_packs()], CHOICES)]
    assert len(ids) == len(set(ids))
