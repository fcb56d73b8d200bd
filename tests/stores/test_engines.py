"""A build on Slurm from a store into a store: its machines fetch for themselves, with the bytes of a local build."""

from pathlib import Path

import pytest
from tests.corpus.repositories import make_form
from tests.stores.test_cli import FILES
from tests.test_cluster import slurm, slurm_runner  # noqa: F401 (a fixture)

from codegemma.build import build_data, choose_work, lend_data
from codegemma.files import write_whole
from codegemma.recipe import override
from codegemma.recipes import load_recipe
from codegemma.shards import list_parts

RECIPE = override(load_recipe("tiny"), ["pack.budget_tokens=200"])


@pytest.mark.slow
@pytest.mark.parametrize("wire", ["s3"], indirect=True)
def test_slurm_builds_from_a_store_into_a_store(
    out: Path,
    tmp_path: Path,
    slurm: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for form in ("app.tar.gz", "app.zip"):
        write_whole(out / "in" / form, make_form(tmp_path / form, form, FILES).read_bytes())
    for path, text in FILES.items():
        write_whole(out / "loose" / path.replace("m", "l"), str(text).replace("f", "g").encode())
    inputs, runner = [out / "in", out / "loose"], slurm_runner(tmp_path)
    build_data(inputs, out / "there", RECIPE, runner)
    build_data(inputs, tmp_path / "here", RECIPE)
    there = lend_data(out / "there")
    assert choose_work(out / "there", runner).parent == tmp_path / "jobs"
    for name in ("packs-train.parquet", "packs-heldout.parquet", "dropped.parquet"):
        parts = [[part.read_bytes() for part in list_parts(data / name)] for data in (there, tmp_path / "here")]
        assert parts[0] == parts[1] != []
