"""The card's table: published figures as they are fractions of their tasks, ours beside them, gaps said."""

import dataclasses
import json
from pathlib import Path

import pytest

from codegemma.adapt import find_base
from codegemma.errors import InputError
from codegemma.evals.card import (
    check_profile,
    choose_profile,
    fill_card,
    is_fraction,
    list_profile_suites,
    read_published,
    spell_card,
)
from codegemma.evals.choices import EvalChoices
from codegemma.evals.measure import Measurement
from codegemma.evals.results import RESULTS_FILE, Results, SuiteResults, read_results
from codegemma.evals.statistics import count_share
from codegemma.model_card import gather_evidence, write_card
from codegemma.recipe import to_plain
from codegemma.records import InfillMode


def make_results(hits: int = 51, tasks: int = 164, model: str = "m") -> Results:
    measured = tuple(
        Measurement(f"model, {policy}", "humaneval", None, "pass_at_1", "share", count_share(count, tasks))
        for policy, count in (("stop_words", hits), ("all", 0))
    )
    suite = SuiteResults("humaneval", "tests that were run", tasks, measured, (), "holes-humaneval.jsonl")
    return Results(model, (suite,))


def test_every_published_figure_but_one_is_a_fraction_of_its_tasks() -> None:
    off = [
        (row.name, column)
        for row in read_published()
        for column, figure in row.figures.items()
        if not is_fraction(figure, row.tasks)
    ]
    assert off == [("BC HE Rust", "7B")]
    assert [(row.name, column) for row in read_published() for column in row.off_lattice] == off


def test_fractions_of_other_sizes_do_not_fit() -> None:
    humaneval = read_published()[0]
    assert not all(is_fraction(figure, 161) for figure in humaneval.figures.values())


def test_measured_column_shows_the_headline_and_says_what_was_not_run() -> None:
    rows = fill_card([make_results()])
    shown = spell_card(rows)
    assert "| HumanEval | 164 | 31.1 (24.5-38.5) | 31.1 | 37.8 | 44.5 | 56.1 | 60.4 |" in shown
    assert "| MBPP | 500 | not run |" in shown
    assert "| GSM8K | 1,319 | not run | – | – | 44.2 | 41.2 | 47.3 |" in shown
    assert len(rows) == 22


def test_part_of_a_benchmark_is_called_a_part() -> None:
    assert fill_card([make_results(2, 10)])[0].describe().endswith(", on 10 of 164 tasks")


def test_infilling_stands_in_the_order_that_was_asked_for() -> None:
    modes = ((InfillMode.PSM, 10), (InfillMode.SPM, 20))
    measured = tuple(
        Measurement("model, first_line", "single_line", mode, "pass_at_1", "share", count_share(hits, 1033))
        for mode, hits in modes
    )
    suite = SuiteResults("infilling-single", "", 1033, measured, (), "")
    results = dataclasses.replace(make_results(), suites=(suite,))
    for mode, hits in modes:
        row = fill_card([results], mode)[2]
        assert row.measured is not None
        assert row.measured.interval.mean == hits / 1033


def test_profile_tells_every_departure() -> None:
    (suite,) = make_results().suites
    choices = EvalChoices(samples=4, temperature=0.2, max_new_tokens=64)
    results = dataclasses.replace(make_results(), suites=(dataclasses.replace(suite, choices=choices),))
    told = check_profile([results], fill_card([results]))
    assert "4 samples at temperature 0.2, where the card has one, greedy" in told
    assert "64 tokens for a middle, where the card has 128" in told
    assert "MBPP: not run" in told
    assert not any(line.startswith("HumanEval:") for line in told)


def test_profile_takes_the_card_s_way_or_says_what_stands_against_it() -> None:
    both = (InfillMode.SPM, InfillMode.PSM)
    assert choose_profile("codegemma-2024", EvalChoices(), both) == (InfillMode.PSM,)
    assert list_profile_suites()[:4] == ["humaneval", "mbpp", "infilling-single", "infilling-multi"]
    with pytest.raises(InputError, match=r"10 tasks, where the card has all; a model that knows the orders SPM"):
        choose_profile("codegemma-2024", EvalChoices(limit=10), (InfillMode.SPM,))
    with pytest.raises(InputError, match=r"2 samples at temperature 0\.5"):
        choose_profile("codegemma-2024", EvalChoices(samples=2, temperature=0.5), both)
    with pytest.raises(InputError, match="unknown profile 'codegemma-2025'; known: codegemma-2024"):
        choose_profile("codegemma-2025", EvalChoices(), both)


def test_results_of_two_models_make_no_card() -> None:
    with pytest.raises(InputError, match="different models in one card: a, b"):
        fill_card([make_results(model="a"), make_results(model="b")])


def test_results_come_back_from_disk(tmp_path: Path) -> None:
    results = make_results()
    (tmp_path / RESULTS_FILE).write_text(json.dumps(to_plain(results)))
    assert read_results(tmp_path) == read_results(tmp_path / RESULTS_FILE) == results
    (tmp_path / RESULTS_FILE).write_text("{}")
    with pytest.raises(InputError, match="run the evaluation again"):
        read_results(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_results(tmp_path / "nowhere")


def test_card_of_a_model_has_every_section_and_claims_nothing_without_evidence() -> None:
    card = write_card(gather_evidence(find_base("tiny"), None, ()))
    for section in ("Training data", "Data processing", "Training", "Evaluation", "Ethics and safety", "Intended use"):
        assert f"\n## {section}\n" in card
    assert "2,361,024 parameters" in card
    assert "Not known: the data folder was not given." in card
    assert "\n## Evaluation\n\nNot measured.\n" in card
    assert "Human ratings: there are none." in card


def test_card_of_a_model_shows_its_results_beside_the_published() -> None:
    card = write_card(gather_evidence(find_base("tiny"), None, [make_results()]))
    assert "| HumanEval | 164 | 31.1 (24.5-38.5) | 31.1 |" in card
