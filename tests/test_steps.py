import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from codegemma.files import write_whole
from codegemma.records import DroppedFile
from codegemma.runner import LocalRunner, ignore_progress, keep_workers
from codegemma.shards import list_parts, write_records
from codegemma.steps import is_whole, publish, run_missing, sweep


@dataclass(frozen=True)
class Doubling:
    number: int
    out: Path
    size: int = 1


def double(task: Doubling) -> dict[str, float]:
    write_whole(task.out, f"{task.number * 2}".encode())
    return {"cpu_s": 1.0}


def tasks(folder: Path, count: int = 4) -> list[Doubling]:
    return [Doubling(number, folder / f"double-{number}") for number in range(count)]


@pytest.mark.parametrize("workers", [1, 2])
def test_only_what_is_missing_is_run_and_progress_counts_all(tmp_path: Path, workers: int) -> None:
    seen: list[tuple[str, int, int | None]] = []
    (tmp_path / "double-1").write_text("kept as it is")
    spent = run_missing(double, tasks(tmp_path), LocalRunner(workers), lambda *step: seen.append(step), "double")
    assert spent == {"cpu_s": 3.0}
    assert [(tmp_path / f"double-{n}").read_text() for n in range(4)] == ["0", "kept as it is", "4", "6"]
    assert seen == [("double", done, 4) for done in (1, 2, 3, 4)]


def tell_process(task: Doubling) -> dict[str, float]:
    write_whole(task.out, str(os.getpid()).encode())
    return {}


def test_single_task_goes_to_workers_that_are_there_and_none_is_started_for_it(tmp_path: Path) -> None:
    alone, several, last = (tasks(tmp_path / name, count) for name, count in (("a", 1), ("s", 2), ("l", 1)))
    with keep_workers():
        for each in (alone, several, last):
            run_missing(tell_process, each, LocalRunner(2), ignore_progress, "tell")
    assert alone[0].out.read_text() == str(os.getpid())
    assert last[0].out.read_text() in {task.out.read_text() for task in several} - {str(os.getpid())}


def test_parquet_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_records(path, [], DroppedFile)
    assert is_whole(path)
    os.truncate(path, path.stat().st_size - 3)
    assert not is_whole(path)
    assert not path.exists()


def test_sweep_keeps_what_is_named_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a", "b", ".c.1.tmp"):
        (tmp_path / name).touch()
    sweep(tmp_path, [tmp_path / "b"])
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("has_links", [True, False])
def test_published_parts_are_the_files_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", refuse_link)
    files = [tmp_path / name for name in ("z.parquet", "a.parquet")]
    for file in files:
        file.write_text(file.name)
    publish(files, tmp_path / "out.parquet")
    assert [part.read_text() for part in list_parts(tmp_path / "out.parquet")] == ["z.parquet", "a.parquet"]


def refuse_link(path: Path, target: Path) -> None:
    raise OSError(f"no links here: {path} to {target}")


KILLED = """
    import sys
    from pathlib import Path
    from codegemma.corpus import pipeline
    from codegemma.corpus.choices import CorpusChoices
    repo, out = map(Path, sys.argv[1:])
    print("ready", flush=True)
    pipeline.build_corpus([repo], out, CorpusChoices(), on_progress=lambda *step: print(step, flush=True))
"""


def test_build_that_is_killed_between_shards_takes_up_what_they_found(tmp_path: Path) -> None:
    from codegemma.corpus.choices import CorpusChoices
    from codegemma.corpus.pipeline import STEPS, build_corpus

    repo = tmp_path / "repo"
    for number in range(40):
        file = repo / f"d{number % 8}/m{number}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            "".join(
                f"def name{number}_{line}(argument):\n    return argument.method() + something\n"
                for line in range(1500)
            )
        )
    script = textwrap.dedent(KILLED)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(repo), str(tmp_path / "out")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("('read', ") and not line.startswith("('read', 0,"):
                process.send_signal(signal.SIGKILL)
                break
        process.communicate()
    found = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / STEPS).glob("texts-*[0-9a-f].parquet")}
    assert found
    build_corpus([repo], tmp_path / "out", CorpusChoices())
    build_corpus([repo], tmp_path / "whole", CorpusChoices())
    assert all(path.stat().st_mtime_ns == written_ns for path, written_ns in found.items())
    outputs = [
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*.parquet") if path.is_file()}
        for out in (tmp_path / "out", tmp_path / "whole")
    ]
    assert outputs[0] == outputs[1]
