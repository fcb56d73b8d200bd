"""A run whose --out is an address: killed and taken up on another machine, it is the run of one machine."""

import dataclasses
import shutil
from functools import partial
from pathlib import Path

import pytest
from tests.stores.wires import Wire
from tests.train.conftest import data, job, tokenizer  # noqa: F401 (fixtures)
from tests.train.test_loop import assert_same_model, read_numbers, stop_at

from codegemma.errors import OutputError
from codegemma.model.weights import load_model
from codegemma.places import get_file, list_objects
from codegemma.published import read_publication
from codegemma.stored_run import publish_run, take_up_run
from codegemma.train.guards import InterruptedRun
from codegemma.train.job import TrainJob
from codegemma.train.loop import train

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")


def test_run_is_taken_up_on_another_machine_and_ends_as_on_one(
    out: Path,
    job: TrainJob,  # noqa: F811
    tmp_path: Path,
) -> None:
    train(dataclasses.replace(job, sample=None))
    first = dataclasses.replace(
        job, out=tmp_path / "machine-1", on_saved=partial(publish_run, tmp_path / "machine-1", out), sample=None
    )
    take_up_run(out, first.out)
    with pytest.raises(InterruptedRun):
        train(first, stop_at(7))
    names = {file.name for file in read_publication(out).files}  # type: ignore[union-attr]
    assert {"run.json", "metrics.jsonl", "tokenizer.json"} <= names
    assert {name.split("/")[1] for name in names if name.startswith("checkpoints/")} == {"5", "7"}

    machine = tmp_path / "machine-2"
    other = dataclasses.replace(first, out=machine, on_saved=partial(publish_run, machine, out))
    take_up_run(out, other.out)
    assert train(other).resumed_step == 7
    assert_same_model(job.out, other.out)
    assert read_numbers(other.out) == read_numbers(job.out)
    # The model stands under its own names for whoever loads it from there.
    copy = tmp_path / "copy"
    for name in (name for name in list_objects(out / "model") if "-" not in name):
        copy.mkdir(exist_ok=True)
        get_file(out / "model" / name, copy / name)
    assert load_model(copy)[1] == load_model(other.out / "model")[1]

    # The first machine sees that another went on, and does not fall back to what it has.
    shutil.rmtree(first.out / "checkpoints")
    take_up_run(out, first.out)
    assert train(first).steps == 12


@pytest.mark.parametrize("wire", ["s3"], indirect=True)
def test_store_that_does_not_answer_stops_a_run_only_at_its_end(
    out: Path, wire: Wire, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/run.json").write_text("{}")
    wire.cuts = 10**6
    publish_run(tmp_path / "work", out, False)
    assert "publishes again after the next checkpoint" in caplog.text
    with pytest.raises(Exception, match="the store did not do it"):
        publish_run(tmp_path / "work", out, True)
    wire.cuts = 0
    publish_run(tmp_path / "work", out, True)
    assert [file.name for file in read_publication(out).files] == ["run.json"]  # type: ignore[union-attr]


@pytest.mark.parametrize("wire", ["s3"], indirect=True)
def test_address_that_holds_something_else_is_refused(out: Path, wire: Wire, tmp_path: Path) -> None:
    out.joinpath("picture.png").write_bytes(b"not ours")
    with pytest.raises(OutputError, match="holds something else"):
        take_up_run(out, tmp_path / "work")
