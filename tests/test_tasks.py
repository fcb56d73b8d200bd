"""Tasks give the same results and the same bytes whoever runs them, and what is done is not done again."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.task_steps import Shout, Shouted, read_outputs, shout, write_sources

from codegemma.errors import InputError
from codegemma.recipe import ChoiceError
from codegemma.runner import LocalRunner, RayRunner, SlurmRunner, WorkerError, parse_runner
from codegemma.tasks import run_tasks

ROOT = Path(__file__).parents[1]


def run(sources: list[Path], out: Path, workers: int) -> list[Shouted]:
    out.mkdir(exist_ok=True)
    return run_tasks(shout, [Shout(str(source), str(out)) for source in sources], LocalRunner(workers), stage="shout")


def test_results_and_bytes_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    sources = write_sources(tmp_path)
    results = [run(sources, tmp_path / f"out-{workers}", workers) for workers in (1, 2, 3)]
    outputs = [read_outputs(tmp_path / f"out-{workers}") for workers in (1, 2, 3)]
    assert results[0] == results[1] == results[2]
    assert outputs[0] == outputs[1] == outputs[2]
    assert [result.records for result in results[0]] == [5] * len(sources)


def test_task_whose_output_is_there_is_not_run_again(tmp_path: Path) -> None:
    sources = write_sources(tmp_path)
    first = run(sources[:4], tmp_path / "out", 1)
    assert run(sources, tmp_path / "out", 1)[:4] == first
    assert sorted((tmp_path / "out" / "ran.log").read_text().split()) == [source.name for source in sources]


KILLED = """
import sys
from pathlib import Path
from codegemma.runner import LocalRunner
from codegemma.tasks import run_tasks
from tests.task_steps import Shout, shout

if __name__ == "__main__":
    sources = sorted(Path(sys.argv[1]).glob("*.parquet"))
    run_tasks(shout, [Shout(str(source), sys.argv[2], "slow") for source in sources], LocalRunner(2))
"""


def test_kill_loses_at_most_the_tasks_in_flight(tmp_path: Path) -> None:
    sources, out = write_sources(tmp_path, 9), tmp_path / "out"
    out.mkdir()
    (tmp_path / "killed.py").write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, str(tmp_path / "killed.py"), str(tmp_path), str(out)]
    with subprocess.Popen(command, env=environment) as killed:
        while len(list(out.glob("*.parquet"))) < 3 and killed.poll() is None:
            time.sleep(0.02)
        killed.kill()
    time.sleep(1)  # until its workers have seen that it is gone
    lost = len(sources) - len(list(out.glob("*.parquet")))
    before = (out / "ran.log").read_text().split()
    resumed = run(sources, out, 1)
    again = (out / "ran.log").read_text().split()[len(before) :]
    assert len(again) == lost > 0
    assert len(set(before) & set(again)) <= 2
    assert resumed == run(sources, tmp_path / "clean", 1)
    left = {name for name in read_outputs(out) if name.endswith(".tmp")}
    assert {name: data for name, data in read_outputs(out).items() if name not in left} == read_outputs(
        tmp_path / "clean"
    )


@pytest.mark.parametrize("damage", ["remove", "truncate"])
def test_task_whose_output_is_not_whole_is_run_again(tmp_path: Path, damage: str) -> None:
    sources = write_sources(tmp_path, 2)
    [first, _] = run(sources, tmp_path / "out", 1)
    whole = read_outputs(tmp_path / "out")
    output = tmp_path / "out" / first.file
    if damage == "remove":
        output.unlink()
    else:
        output.write_bytes(output.read_bytes()[:-7])
    assert run(sources, tmp_path / "out", 1)[0] == first
    assert read_outputs(tmp_path / "out") == whole
    ran = (tmp_path / "out" / "ran.log").read_text().split()
    assert ran == ["source-0.parquet", "source-1.parquet", "source-0.parquet"]


@pytest.mark.parametrize("workers", [1, 2])
def test_user_error_keeps_its_class_and_names_the_task(tmp_path: Path, workers: int) -> None:
    tasks = [Shout(str(source), str(tmp_path)) for source in write_sources(tmp_path, 2)]
    with pytest.raises(InputError, match=r"torn: damaged; build it again \(in shout: Shout\(source='torn'"):
        run_tasks(shout, [*tasks, Shout("torn", "", "input")], LocalRunner(workers), stage="shout")
    assert len([name for name in read_outputs(tmp_path) if name.endswith(".parquet") and "source" not in name]) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_bug_keeps_its_class_and_its_traceback_names_the_task(tmp_path: Path, workers: int) -> None:
    with pytest.raises(ZeroDivisionError, match="a bug") as caught:
        run_tasks(shout, [Shout("s", "", "bug")] * 2, LocalRunner(workers), stage="shout")
    assert any("in shout: Shout(source='s'" in note for note in caught.value.__notes__)


def test_dead_worker_is_a_worker_error(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="shout: a worker process died"):
        run_tasks(shout, [Shout("s", "", "death")], LocalRunner(2), stage="shout")


def test_progress_counts_the_tasks(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    tasks = [Shout(str(source), str(tmp_path)) for source in write_sources(tmp_path, 2)]
    run_tasks(shout, tasks, on_progress=lambda *report: seen.append(report), stage="shout")
    assert seen == [("shout", 0, 2), ("shout", 1, 2), ("shout", 2, 2)]


@pytest.mark.parametrize(
    ("text", "runner"),
    [
        ("local", LocalRunner(5)),
        ("local:workers=3", LocalRunner(3)),
        ("ray:address=local,workers=8,folder=/shared/x", RayRunner(8, address="local", folder="/shared/x")),
        ("slurm:partition=cpu,time=02:30:00", SlurmRunner("cpu", time="02:30:00")),
    ],
)
def test_runner_is_read_from_its_text(text: str, runner: object) -> None:
    assert parse_runner(text, workers=5) == runner


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dask", "no such runner; known: local, ray, slurm"),
        ("ray:wrokers=3", "did you mean 'workers'"),
        ("ray:workers", "wanted ray:option=value"),
        ("ray:workers=many", "workers=many: wanted int"),
        ("local:workers=0", "workers=0; wanted at least 1"),
        ("ray:memory_gb=0", "at least one CPU and 1 GB"),
        ("slurm:time=1:00:00", "which partition"),
        ("", "no such runner"),
    ],
)
def test_wrong_runner_is_an_error_that_says_what_is_known(text: str, message: str) -> None:
    with pytest.raises(ChoiceError, match=message):
        parse_runner(text)
