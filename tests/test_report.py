"""A report is one page that stands alone, shows text as text, and is the same bytes for the same input."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.errors import OutputError
from codegemma.report import Column, Estimate, Report, Series

VOID_TAGS = {"meta", "line", "path", "use", "rect"}
# Names of XML vocabularies are not addresses that a browser fetches.
NAMESPACES = ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")


class PageReader(HTMLParser):
    """Reads text as a browser shows it, and insists that tags are closed in order and ids are unique."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.shown, self.ids = "", list[str]()
        self.addresses, self.open_tags = list[str](), list[str]()
        self.feed(page)
        self.close()
        assert not self.open_tags
        assert len(self.ids) == len(set(self.ids)), "an id occurs twice"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID_TAGS:
            self.open_tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in {"src", "href", "xlink:href", "srcset", "action"}:
                self.addresses.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID_TAGS:
            self.open_tags.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID_TAGS:
            assert self.open_tags.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open_tags:
            self.shown += data


def _full_report() -> Report:
    report = Report("What the model knows of `json`", "codegemma adapt json")
    report.text("The base reads & writes.")
    report.numbers([("Exact match", "11.3 %", "9.8 to 12.9")])
    for title in ("Holes", "Training", "Files"):
        report.section(title)
    report.table(
        ["system", Column("match, %", 1, 100), Column("holes")],
        [["model", Estimate(0.113, 0.098, 0.129), 2000], ["base", Estimate(0.04), 2000], ["n-gram", None, 12]],
        "More is better.",
        strong_rows={0},
    )
    report.lines(
        [Series("training", [1, 2, 3], [3, 2, 1]), Series("held-out", [1, 3], [3, 2])], "step", "bits", "Falls."
    )
    report.lines([Series("one", [1], [3])], "step", "bits", "A point.", is_y_log=True)
    report.bars({"kept": 214, "a $ and `b`": 1}, "files", "Most are kept.")
    report.histogram({"middle": [1.0, 2.0, 2.5]}, [0, 1, 2, 3], "characters", "Short.")
    report.histogram({"a": [1.0, 2.0], "b": [2.0] * 4}, [1, 2, 4], "characters", "Both.", is_x_log=True)
    report.completion("a.py:1:5", "def f():\n    ", "return 1", "return 1", "\n")
    report.completion("a.py:2:5", "x = ", "<b>", "<i>", "\n")
    report.code("$ codegemma serve <model>", "What to type next.")
    return report


def test_page_refers_to_nothing_outside_itself() -> None:
    page = _full_report().render()
    for address in PageReader(page).addresses:
        assert address.startswith("#")
    assert set(re.findall(r"https?://[^\"'\s<)]+", page)) <= set(NAMESPACES)
    assert "url(" not in page or set(re.findall(r"url\((.)", page)) == {"#"}
    assert "@import" not in page
    assert "<script" not in page


def test_references_inside_the_page_have_targets() -> None:
    page = _full_report().render()
    reader = PageReader(page)
    wanted = {a[1:] for a in reader.addresses} | set(re.findall(r"url\(#([^)]+)\)", page))
    assert wanted <= set(reader.ids)
    assert wanted


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        _full_report().write(tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_plots_follow_the_colour_scheme() -> None:
    """No colour is fixed in a plot: every one is a variable of the style sheet, which has a light and a dark value."""
    page = _full_report().render()
    body, style = page[page.index("</style>") :], page[: page.index("</style>")]
    assert re.findall(r"#[0-9a-fA-F]{6}\b", body) == []
    dark = style[style.index("prefers-color-scheme: dark") :]
    for variable in set(re.findall(r"var\((--[\w-]+)\)", page)):
        assert f"{variable}:" in style
        assert f"{variable}:" in dark


@pytest.mark.parametrize(
    ("cell", "column", "shown"),
    [
        (Estimate(0.113, 0.098, 0.129), Column("match, %", 1, 100), "11.39.8 to 12.9"),
        (Estimate(1.5), Column("bits"), "1.50no interval"),
        (Estimate(-0.25, -0.5, 0.0), Column("difference", 1), "−0.2−0.5 to 0.0"),
        (1234567, Column("tokens"), "1\u202f234\u202f567"),
        (0.5, Column("seconds", 1), "0.5"),
        (None, Column("match"), "–"),
        (True, Column("is kept"), "True"),
        ("a<b", Column("path"), "a<b"),
    ],
)
def test_cells_read_as_they_should(cell: object, column: Column, shown: str) -> None:
    report = Report("t")
    report.table([column], [[cell]], "")
    assert PageReader(report.render()).shown.split(column.title)[1].strip() == shown


def test_plots_take_whatever_a_run_may_give() -> None:
    report = Report("t")
    report.lines(
        [Series("diverged", [1, 2, 3], [1.0, float("nan"), float("inf")]), Series("empty", [], [])], "x", "y", ""
    )
    report.bars({}, "files", "")
    report.bars({"漢字/ファイル.py": 1.0, "_" * 80: 0.0}, "files", "")
    report.histogram({"empty": []}, [0, 1, 2], "characters", "")
    assert "漢字" in PageReader(report.render()).shown


def test_row_with_another_number_of_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Report("t").table(["a", "b"], [[1, 2], [3]], "")


printable = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


@given(st.lists(printable, min_size=6, max_size=6))
def test_text_is_shown_as_it_is_and_never_becomes_markup(texts: list[str]) -> None:
    title, paragraph, code, before, written, cell = texts
    report = Report(title)
    report.text(paragraph)
    report.code(code)
    report.completion("a.py", before, written, "truth", "after")
    report.table(["column"], [[cell]], "caption")
    shown = PageReader(report.render()).shown
    assert code in shown
    assert before in shown
    assert written in shown
    for text in (title, paragraph, cell):
        assert text.replace("`", "") in shown.replace("`", "")


def test_title_of_the_tab_is_plain_text() -> None:
    assert "<title>What the model knows of json</title>" in _full_report().render()


def test_control_characters_become_visible_signs() -> None:
    report = Report("t")
    report.code("a\x00b\x1b[31mc\x7f\r\nd\te")
    assert "a␀b␛[31mc␡\nd\te" in PageReader(report.render()).shown


def test_half_a_character_does_not_keep_a_page_from_being_written(tmp_path: Path) -> None:
    report = Report("t")
    report.fold("`\ud83d`", [("program", "x = '\udc00'")])
    report.write(tmp_path / "page.html")
    assert "x = '\ufffd'" in PageReader((tmp_path / "page.html").read_text(encoding="utf-8")).shown


def test_completion_says_whether_it_is_as_in_the_file() -> None:
    shown = PageReader(_full_report().render()).shown
    assert "a.py:1:5as in the file" in shown
    assert "a.py:2:5differs from the file" in shown
    assert shown.count("In the file:") == 1


def test_unwritable_folder_is_an_error_of_the_output(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        _full_report().write(tmp_path / "out" / "report.html")
