"""Ray and Slurm run the very task functions of a local run, and give its results and its bytes.

Ray is a real cluster of this machine. Slurm is not here: `sbatch`, `srun`, `squeue`, `scontrol` and `scancel` are small
programs that start the script as an array on this machine, so that all is real but the scheduler.
"""

import builtins
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from tests.task_steps import Shout, read_outputs, shout, sleepless, write_sources

from codegemma import cluster
from codegemma.errors import InputError, MissingExtraError, UserError
from codegemma.ranks import Answer, TaskFailedError, attempt, read_contract
from codegemma.runner import LocalRunner, RayRunner, Runner, SlurmRunner, WorkerError
from codegemma.tasks import run_tasks

ROOT = Path(__file__).parents[1]

SBATCH = """
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
[last] = re.findall(r"^#SBATCH --array=0-(\\d+)%\\d+$", script, re.M)
[log] = re.findall(r"^#SBATCH --output=(.+)$", script, re.M)
exported = dict(pair.split("=") for arg in sys.argv if arg.startswith("--export=ALL,") for pair in [arg[13:]])
for rank in range(int(last) + 1):
    slurm = {"SLURM_ARRAY_TASK_ID": str(rank), "SLURM_JOB_ID": "77", "SLURM_NODELIST": "node-[1-2]"}
    out = open(log.replace("%A", "77").replace("%a", str(rank)), "w")
    run = subprocess.Popen(["bash", "-c", script], env={**os.environ, **slurm, **exported}, stdout=out, stderr=out)
    open(os.environ["FAKE_SLURM"] + "/pids", "a").write(f"{run.pid}\\n")
print("Submitted batch job 77")
"""
SRUN = """
import os, sys
assert sys.argv[1:4] == ["-l", "-n", "1"], sys.argv
os.execv(sys.argv[4], sys.argv[4:])
"""
SQUEUE = """
import os
for pid in open(os.environ["FAKE_SLURM"] + "/pids").read().split():
    try:
        if "State:\\tZ" not in open(f"/proc/{pid}/status").read():
            print(77, pid)
    except OSError:
        pass
"""
SCONTROL = "print('node-1\\nnode-2')"
SCANCEL = """
import os, sys
open(os.environ["FAKE_SLURM"] + "/cancelled", "w").write(sys.argv[1])
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the five programs on the path."""
    folder = tmp_path / "fake-slurm"
    folder.mkdir()
    programs = {"sbatch": SBATCH, "srun": SRUN, "squeue": SQUEUE, "scontrol": SCONTROL, "scancel": SCANCEL}
    for name, program in programs.items():
        (folder / name).write_text(f"#!{sys.executable}\n{program}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    # The nodes import codegemma and this folder's task functions.
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    monkeypatch.setattr(cluster, "POLL_S", 0.3)
    return folder


def slurm_runner(tmp_path: Path, **options) -> SlurmRunner:
    return SlurmRunner(partition="cpu", workers=2, folder=str(tmp_path / "jobs"), **options)


def tasks_of(tmp_path: Path, out: Path, shards: int = 6) -> list[Shout]:
    out.mkdir()
    return [Shout(str(source), str(out)) for source in write_sources(tmp_path, shards)]


def check_equals_local(tmp_path: Path, runner: Runner) -> None:
    seen: list[tuple[str, int, int | None]] = []
    there = run_tasks(
        shout, tasks_of(tmp_path, tmp_path / "there"), runner, lambda *report: seen.append(report), stage="shout all"
    )
    here = run_tasks(shout, tasks_of(tmp_path, tmp_path / "here"), LocalRunner(1))
    assert there == here
    assert read_outputs(tmp_path / "there") == read_outputs(tmp_path / "here")
    assert (seen[0], seen[-1]) == (("shout all", 0, 6), ("shout all", 6, 6))
    assert list((tmp_path / "jobs").iterdir()) == []


def test_slurm_gives_the_results_and_bytes_of_a_local_run(tmp_path: Path, slurm: Path) -> None:
    check_equals_local(tmp_path, slurm_runner(tmp_path))


def check_failures(tmp_path: Path, runner: Runner) -> None:
    tasks = tasks_of(tmp_path, tmp_path / "out", 2)
    with pytest.raises(InputError, match=r"torn: damaged; build it again \(in shout: Shout\(source='torn'"):
        run_tasks(shout, [*tasks, Shout("torn", "", "input")], runner, stage="shout")
    assert len([name for name in read_outputs(tmp_path / "out") if name.endswith(".parquet")]) == 2
    with pytest.raises(TaskFailedError, match=r"(?s)ZeroDivisionError: a bug.*in shout: Shout\(source='s'"):
        run_tasks(shout, [Shout("s", "", "bug")], runner, stage="shout")
    with pytest.raises(WorkerError, match=r"(?s)a worker process died.*source='s'"):
        run_tasks(shout, [Shout("s", "", "death")], runner, stage="shout")


def test_slurm_task_that_fails_is_named_in_its_own_class(tmp_path: Path, slurm: Path) -> None:
    check_failures(tmp_path, slurm_runner(tmp_path))


def test_slurm_job_is_described_without_a_pickle(tmp_path: Path, slurm: Path) -> None:
    runner = slurm_runner(tmp_path, cpus_per_task=3, memory_gb=5, time="01:30:00", account="acme")
    with pytest.raises(InputError):
        run_tasks(shout, [Shout("torn", "", "input")] * 3, runner, stage="shout & more")
    [folder] = (tmp_path / "jobs").iterdir()
    script = (folder / "launch.slurm").read_text()
    for directive in [
        "--partition=cpu", "--time=01:30:00", "--cpus-per-task=3", "--mem-per-cpu=5G", "--account=acme",
        "--array=0-2%2", "--job-name=codegemma-shout-more",
    ]:  # fmt: skip
        assert f"#SBATCH {directive}\n" in script
    assert f"srun -l -n 1 {sys.executable} -m codegemma.cluster {folder}\n" in script
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {".json", ".slurm", ".out", ".log", ""}
    assert all(not file.read_bytes().startswith(b"\x80") for file in files)


def test_slurm_job_that_vanishes_is_a_worker_error_that_names_the_logs(tmp_path: Path, slurm: Path) -> None:
    (slurm / "srun").write_text("#!/bin/sh\nexit 9\n")
    with pytest.raises(WorkerError, match=rf"ended without an answer for Shout.*logs in {tmp_path}"):
        run_tasks(shout, tasks_of(tmp_path, tmp_path / "out", 1), slurm_runner(tmp_path), stage="shout")


def test_interrupted_run_cancels_its_slurm_job(tmp_path: Path, slurm: Path) -> None:
    (slurm / "srun").write_text("#!/bin/sh\nexec sleep 2\n")

    def interrupt(stage: str, done: int, total: int | None) -> None:
        if (slurm / "pids").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tasks(shout, tasks_of(tmp_path, tmp_path / "out", 1), slurm_runner(tmp_path), interrupt)
    assert (slurm / "cancelled").read_text() == "77"


def test_slurm_that_is_not_there_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"sbatch took no job.*login node"):
        run_tasks(shout, tasks_of(tmp_path, tmp_path / "out", 1), slurm_runner(tmp_path))


RAY_RUN = """
import sys
from pathlib import Path
from codegemma.runner import RayRunner
from tests import test_cluster
if sys.argv[3] == "connected":
    import ray
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
check = getattr(test_cluster, sys.argv[1])
check(Path(sys.argv[2]), RayRunner(2, address="local", memory_gb=1, folder=sys.argv[2] + "/jobs"))
"""


def run_with_ray(check: str, folder: Path, connected: str) -> None:
    """Run a check in a process of its own: Ray leaves threads and open files, and what it warns of is not ours."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install codegemma[scale]")
    # The path of a socket is short, and pytest's folders are long.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as sessions:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "RAY_TMPDIR": sessions}
        environment["RAY_USAGE_STATS_ENABLED"] = "0"
        command = [sys.executable, "-c", RAY_RUN, check, str(folder), connected]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]


def test_ray_gives_the_results_and_bytes_of_a_local_run(tmp_path: Path) -> None:
    run_with_ray("check_equals_local", tmp_path, "not connected")


@pytest.mark.slow
def test_ray_task_that_fails_is_named_in_its_own_class(tmp_path: Path) -> None:
    run_with_ray("check_failures", tmp_path, "connected")


def test_missing_extra_is_named_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datatrove", None)
    with pytest.raises(MissingExtraError, match=r"needs the package datatrove; install codegemma\[scale\]"):
        run_tasks(shout, [Shout("s", "")], RayRunner(folder=str(tmp_path / "jobs")))
    assert list(tmp_path.iterdir()) == []


def test_local_run_never_imports_an_engine(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import sys
        from codegemma.tasks import run_tasks
        run_tasks(abs, [-1])
        print([name for name in ("ray", "datatrove", "codegemma.cluster") if name in sys.modules])
    """)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("function", [lambda task: task, sleepless, builtins.abs])
def test_function_that_no_node_could_import_or_answer_is_refused(tmp_path: Path, function) -> None:
    with pytest.raises(TypeError, match=r"cannot run on a cluster"):
        run_tasks(function, [Shout("s", "")], slurm_runner(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_run_without_a_shared_folder_is_refused() -> None:
    with pytest.raises(UserError, match=r"needs folder=PATH"):
        run_tasks(shout, [Shout("s", "")], RayRunner())


def test_contract_is_read_from_the_annotations() -> None:
    task, result = read_contract(shout)
    assert (task.__name__, result.__name__) == ("Shout", "Shouted")


def test_node_answers_in_plain_words_for_whatever_lies_in_the_job(tmp_path: Path) -> None:
    for call in [("tests.task_steps:shout", '{"source": 3}'), ("no_such_module:f", "{}"), ("json:loads", "\0")]:
        answer = attempt(call)
        assert isinstance(answer, Answer)
        assert answer.result is None
        assert json.dumps(answer.message)
