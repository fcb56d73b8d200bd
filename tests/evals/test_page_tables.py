"""Figures stand where they are compared: languages below each other, policies side by side."""

import pytest

from codegemma.evals.babelcode.suites import find_ceiling
from codegemma.evals.measure import Measurement
from codegemma.evals.page_tables import are_alike, choose_bars, tabulate, tabulate_alike
from codegemma.evals.statistics import count_share
from codegemma.records import InfillMode
from codegemma.report import Column

LANGUAGES = {"go": 1, "java": 2, "javascript": 3}


def make(kind: str, system: str, hit: int, mode: InfillMode | None = None, metric: str = "pass_at_1") -> Measurement:
    return Measurement(f"model, {system}", kind, mode, metric, "share", count_share(hit, 4))


BABELCODE = [
    make(key, system, hit + more) for key, hit in LANGUAGES.items() for system, more in (("function", 0), ("all", 1))
]


def test_languages_stand_in_one_table_with_their_ceilings() -> None:
    assert are_alike(BABELCODE)
    columns, rows = tabulate_alike(BABELCODE, lambda key: find_ceiling("babelcode-humaneval", key))
    titles = [column.title if isinstance(column, Column) else column for column in columns]
    assert titles == ["pass@1, %", "ceiling", "function", "all"]
    shares = [[row[0], row[2].value, row[3], row[1]] for row in rows]  # type: ignore[attr-defined]
    assert shares == [
        ["go", 0.25, 0.5, "161/161"],
        ["java", 0.5, 0.75, "161/161"],
        ["javascript", 0.75, 1.0, "160/161"],
    ]
    assert list(choose_bars(BABELCODE)) == list(LANGUAGES)


@pytest.mark.parametrize(
    "measured",
    [
        BABELCODE[:4],
        BABELCODE[:-1],
        [*BABELCODE, make("go", "function", 1, metric="pass_at_10")],
        [make(f"k{n}", "all", 1, mode) for n in range(3) for mode in (InfillMode.PSM, InfillMode.SPM)],
        [make(f"k{n}", "all", 1) for n in range(3)],
        [],
    ],
)
def test_kinds_that_differ_in_more_have_tables_of_their_own(measured: list[Measurement]) -> None:
    assert not are_alike(measured)


def test_orders_of_the_parts_have_rows_and_bars_of_their_own() -> None:
    measured = [make("single_line", "all", n, mode) for n, mode in enumerate((InfillMode.PSM, InfillMode.SPM))]
    columns, rows = tabulate("single_line", measured)
    assert [row[:2] for row in rows] == [["model, all", "PSM"], ["model, all", "SPM"]]
    assert len(columns) == len(rows[0]) == 4
    assert list(choose_bars(measured)) == ["PSM model, all", "SPM model, all"]
    assert choose_bars(measured[:1]) == choose_bars([make("a", "x", 0), make("b", "x", 0)]) == {}
