"""An ablation compares hole by hole what differs in one choice, and a second command finds what the first one did."""

import dataclasses
import json
from pathlib import Path

import pytest
from tests.evals.subjects import heldout_packs

from codegemma.ablation import (
    REFERENCE,
    VARIANTS,
    AblationJob,
    AblationTable,
    Support,
    ablate,
    choose_variants,
    list_supports,
)
from codegemma.ablation_report import write_report
from codegemma.ablation_score import ScoreRow, compare_runs
from codegemma.cli.ablate import spell_table
from codegemma.errors import InputError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.heldout import make_span_holes
from codegemma.evals.scoring import HoleResult
from codegemma.evals.statistics import Interval
from codegemma.feed.choices import FeedChoices
from codegemma.pack.choices import PackChoices
from codegemma.recipe import to_plain
from codegemma.recipes import load_recipe
from codegemma.records import InfillMode


def write_results(folder: Path, name: str, bits: dict[str, float], mode: InfillMode) -> Path:
    results = [
        HoleResult(hole, "r", f"{hole}.py", "line", "model", mode, 2, exact_match=value < 4, bits=value)
        for hole, value in bits.items()
    ]
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(to_plain(result)) + "\n" for result in results))
    return file


def test_variants_are_averaged_over_seeds_and_compared_hole_by_hole(tmp_path: Path) -> None:
    files = {
        "reference": [
            write_results(tmp_path, "a", {"x": 4.0, "y": 8.0, "z": 6.0}, InfillMode.SPM),
            write_results(tmp_path, "b", {"x": 6.0, "y": 8.0, "z": 6.0}, InfillMode.SPM),
        ],
        "spm1": [write_results(tmp_path, "c", {"x": 3.0, "y": 4.0, "w": 0.0}, InfillMode.SPM1)],
    }
    rows, holes = compare_runs(files, "reference")
    assert holes == {"line": 2}
    exact, bits = rows
    assert (exact.metric, exact.mode, exact.reference, exact.value) == ("exact_match", "spm", 0.0, 0.5)
    # Two bytes a hole: (5 + 8) / 4 against (3 + 4) / 4.
    assert (bits.reference, bits.value, bits.difference.mean) == (3.25, 1.75, -1.5)
    assert bits.difference.clusters == 2


def test_each_row_speaks_for_a_default_against_it_or_for_neither() -> None:
    def row(variant: str, metric: str, low: float, high: float) -> ScoreRow:
        return ScoreRow(variant, "line", "spm", metric, 0.0, 0.0, Interval((low + high) / 2, low, high, 9, 9))

    rows = [
        row("raw-cuts", "exact_match", 0.1, 0.2),
        row("raw-cuts", "bits_per_byte", 0.1, 0.2),
        row("raw-cuts", "bits_per_byte", -0.1, 0.2),
        row("random", "exact_match", -0.2, -0.1),
    ]
    raw, order = list_supports(tuple(VARIANTS.values()), rows)
    assert raw == Support("raw-cuts", "feed.natural_share", "0.9", "0.0", 1, 1, 1)
    assert order == Support("random", "pack.order", "grouped", "random", 1, 0, 0)
    table = AblationTable(3, 1000, {"line": 9}, tuple(rows), (raw, order))
    assert "| feed.natural_share | 0.9 | 0.0 (raw-cuts) | 1 | 1 | 1 |" in spell_table(table)


def test_the_page_shows_each_variant_with_its_intervals(tmp_path: Path) -> None:
    rows = tuple(
        ScoreRow(name, kind, "spm", "bits_per_byte", 1.5, 1.4, Interval(-0.1, low, None if low is None else 0.3, 9, 3))
        for name, low in (("raw-cuts", -0.2), ("spm1", None))
        for kind in ("line", "cross_file")
    )
    page = write_report(tmp_path, AblationTable(3, 1000, {"line": 9}, rows, ())).read_text()
    assert "suffixes begin anywhere" in page
    assert "spm1 − reference, bits per byte" in page
    assert "cross file, SPM" in page
    assert page.count("<svg") == 2


def test_every_variant_differs_from_the_defaults_in_its_setting_alone() -> None:
    feed, pack = FeedChoices(), PackChoices()
    for variant in VARIANTS.values():
        group, _, name = variant.setting.partition(".")
        changed = [f"feed.{key}" for key, value in variant.feed.items() if getattr(feed, key) != value]
        changed += ["pack.order"] if variant.order != pack.order else []
        assert changed == ([variant.setting] if group else []), name


def test_spans_are_cut_anywhere_and_fewer_are_among_more() -> None:
    choices = EvalChoices(max_holes_per_kind=40)
    holes = make_span_holes(heldout_packs(), choices)
    texts = {file.path: file.text for pack in heldout_packs() for file in pack.files}
    assert len(holes) == 40
    assert all(hole.prefix + hole.middle + hole.suffix == texts[hole.path] for hole in holes)
    assert all(3 <= len(hole.middle) <= 120 for hole in holes)
    assert any("\n" in hole.middle for hole in holes)
    assert make_span_holes(heldout_packs(), dataclasses.replace(choices, max_holes_per_kind=9)) == holes[:9]


def test_reference_stands_beside_whatever_is_named() -> None:
    assert [variant.name for variant in choose_variants(["spm1"])] == ["reference", "spm1"]
    assert choose_variants([]) == tuple(VARIANTS.values())
    with pytest.raises(InputError, match="unknown variant 'spm3'; known: reference, raw-cuts, spm1"):
        choose_variants(["spm3"])


@pytest.mark.slow
def test_an_ablation_taken_up_again_trains_nothing_anew(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    for number in range(12):
        file = repo / f"part{number}/module.py"
        file.parent.mkdir(parents=True)
        used = f"from part{number - 1}.module import count_{number - 1}\n\n\n" if number else ""
        body = f"def count_{number}(items):\n    total = len(items) + {number}\n    return total\n" * 6
        call = f"\n\nprint(count_{number - 1}([1]))\n" if number else ""
        file.write_text(used + body + call)
    recipe = load_recipe("tiny_base")
    recipe = dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, vocab_size=400, embed_dim=16, num_layers=1, num_heads=1, mlp_dim=32),
        corpus=dataclasses.replace(recipe.corpus, heldout_share=0.3),
        train=dataclasses.replace(recipe.train, steps=2),
        evals=dataclasses.replace(recipe.evals, max_holes_per_kind=6),
    )
    job = AblationJob((repo,), tmp_path / "out", recipe, (REFERENCE, VARIANTS["alphabetical"]), seeds=1)
    table = ablate(job)
    assert {row.variant for row in table.rows} == {"alphabetical"}
    assert table.tokens == 2 * 3 * 320
    stages: list[str] = []
    assert to_plain(ablate(job, lambda stage, *_: stages.append(stage))) == to_plain(table)
    assert not [stage for stage in stages if "train" in stage.rpartition(": ")[2]]
    assert "nats a token" in write_report(job.out, table).read_text()
