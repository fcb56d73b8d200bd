"""Runs tasks on a cluster that exists: Ray or Slurm, through datatrove's executors.

**In**: a function that is importable by name, tasks of plain data, and a folder that every machine sees.
**Out**: the results, in the order of the tasks. They come back as JSON files in the folder, as the tasks went there:
nothing on disk is a pickle, and what a node runs is `python -m codegemma.cluster FOLDER`.
**Not**: resume. datatrove's marks tell a rank's number and not what it did, so each run has a new folder and runs every
rank; which tasks there are to run is the caller's to find out (`steps.run_missing`).
"""

import contextlib
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from codegemma.errors import MissingExtraError, OutputError, UserError
from codegemma.files import write_whole
from codegemma.ranks import Job, RankStep, read_answer, read_contract, read_job, unwrap_answers
from codegemma.recipe import to_plain
from codegemma.runner import Progress, RayRunner, SlurmRunner, WorkerError, end_with_workers

X = TypeVar("X")
Y = TypeVar("Y")

# Ranks for each worker: enough that a worker with easy tasks takes more of them, few enough that starting costs little.
RANKS_PER_WORKER = 4
# Slurm's default for the largest array is 1,001 (slurm.conf, MaxArraySize).
MAX_RANKS = 1000
# How often the engine is asked. A login node is shared, and its scheduler answers many.
POLL_S = float(os.environ.get("CODEGEMMA_POLL_S", "10"))
# A node's files are seen by others a little later (NFS keeps attributes for a minute by default).
SETTLE_S = 60.0
_MAX_FAILED_POLLS = 30


def run_on_cluster(
    function: Callable[[X], Y],
    tasks: Sequence[X],
    runner: RayRunner | SlurmRunner,
    on_progress: Progress,
    stage: str,
) -> list[Y]:
    """Run `function` on every task by the ranks of a datatrove executor; `tasks.run_tasks` says what is promised.

    Raises:
        TypeError: the function is not importable by name, or its annotations name no dataclasses of plain data.
        TaskFailedError: a task raised what is not a `UserError`.
    """
    _, result_kind = read_contract(function)
    require_datatrove("ray" if isinstance(runner, RayRunner) else "slurm")
    on_progress(stage, 0, len(tasks))
    if not tasks:
        return []
    folder = _make_folder(runner.folder, stage)
    ranks = min(len(tasks), runner.workers * RANKS_PER_WORKER, MAX_RANKS)
    slurm = runner if isinstance(runner, SlurmRunner) else None
    name = f"{function.__module__}:{function.__qualname__}"
    job = Job(stage, name, ranks, slurm, tuple(json.dumps(to_plain(task)) for task in tasks))
    write_whole(folder / "job.json", json.dumps(to_plain(job)).encode())
    watch = _Watch(folder, tasks, on_progress, stage)
    if isinstance(runner, RayRunner):
        _run_ray(runner, folder, ranks, watch)
    else:
        _run_slurm(runner, folder, job, watch)
    answers = [read_answer(folder, number) for number in range(len(tasks))]
    results = list(unwrap_answers(answers, tasks, result_kind, stage, folder))
    shutil.rmtree(folder, ignore_errors=True)
    return results


def require_datatrove(engine: str) -> None:
    """Look whether the engine's packages are here, before anything is written.

    Raises:
        MissingExtraError: they are not.
    """
    try:
        importlib.import_module("datatrove")
        if engine == "ray":
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would send them over the network
            importlib.import_module("ray")
        logger = importlib.import_module("loguru").logger
    except ImportError as error:
        raise MissingExtraError(
            f"--runner {engine} needs the package {error.name}; install codegemma[scale]"
        ) from error
    # What it says goes to the tasks' own log files; here it would cut through our progress lines.
    logger.disable("datatrove")


def _make_folder(parent: str | None, stage: str) -> Path:
    if parent is None:
        raise UserError("a cluster run needs folder=PATH in --runner: a folder that every machine sees under that path")
    try:
        Path(parent).mkdir(parents=True, exist_ok=True)
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", stage)
        return Path(tempfile.mkdtemp(prefix=f"{slug}-", dir=Path(parent).resolve()))
    except OSError as error:
        raise OutputError(f"{parent}: cannot be written ({error.strerror}); choose another folder=") from error


@dataclass(frozen=True, slots=True)
class _Watch:
    """Tells how many tasks have answered while an engine works."""

    folder: Path
    tasks: Sequence[Any]
    on_progress: Progress
    stage: str

    def report(self) -> int:
        answered = sum(1 for _ in (self.folder / "answers").glob("*.json"))
        self.on_progress(self.stage, answered, len(self.tasks))
        return answered

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Report from a thread, because Ray's executor answers only when all is done."""
        is_done = threading.Event()

        def keep_reporting() -> None:
            while not is_done.wait(POLL_S):
                self.report()

        thread = threading.Thread(target=keep_reporting, daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_done.set()
            thread.join()
        self.report()


# --- Ray --------------------------------------------------------------------------------------------------------------


def _run_ray(runner: RayRunner, folder: Path, ranks: int, watch: _Watch) -> None:
    import ray
    from datatrove.executor.ray import RayPipelineExecutor

    with _connected(ray, runner), watch.reporting():
        RayPipelineExecutor(
            [RankStep(str(folder))],
            tasks=ranks,
            workers=runner.workers,
            cpus_per_task=runner.cpus_per_task,
            mem_per_cpu_gb=runner.memory_gb,
            logging_dir=str(folder / "logs"),
            skip_completed=False,
        ).run()


@contextlib.contextmanager
def _connected(ray: Any, runner: RayRunner) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    here: dict[str, Any] = {"num_cpus": runner.workers * runner.cpus_per_task, "include_dashboard": False}
    try:
        ray.init(address=runner.address, log_to_driver=False, **(here if runner.address == "local" else {}))
    except (ConnectionError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"no Ray at address={runner.address} ({reason}); start one with `ray start --head`") from error
    try:
        yield
    finally:
        end_with_workers(ray.shutdown)


# --- Slurm ------------------------------------------------------------------------------------------------------------


def _slurm_executor(runner: SlurmRunner, folder: Path, job: Job) -> Any:
    from datatrove.executor.slurm import SlurmPipelineExecutor

    return SlurmPipelineExecutor(
        [RankStep(str(folder))],
        tasks=job.ranks,
        time=runner.time,
        partition=runner.partition,
        cpus_per_task=runner.cpus_per_task,
        mem_per_cpu_gb=runner.memory_gb,
        workers=runner.workers,
        job_name="codegemma-" + re.sub(r"[^A-Za-z0-9_-]+", "-", job.stage),
        qos=runner.qos or "",
        sbatch_args={"account": runner.account} if runner.account else {},
        max_array_size=MAX_RANKS,
        logging_dir=str(folder / "logs"),
        slurm_logs_folder=str(folder / "logs" / "slurm"),
        skip_completed=False,
    )


def _run_slurm(runner: SlurmRunner, folder: Path, job: Job, watch: _Watch) -> None:
    # The executor's own `launch_job` would leave a pickle for the nodes to run; they build this very executor instead.
    from datatrove.executor.slurm import launch_slurm_job

    executor = _slurm_executor(runner, folder, job)
    command = shlex.join(["srun", "-l", "-n", "1", sys.executable, "-m", "codegemma.cluster", str(folder)])
    script = executor.get_launch_file_contents(executor.get_sbatch_args(job.ranks), command)
    write_whole(folder / "launch.slurm", script.encode())
    write_whole(folder / "logs" / "ranks_to_run.json", json.dumps(list(range(job.ranks))).encode())
    try:
        job_id = launch_slurm_job(script, executor.job_id_retriever, "--export=ALL,RUN_OFFSET=0")
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise UserError(f"sbatch took no job ({error}); run this on a login node, see {folder}/launch.slurm") from error
    try:
        _wait_for_slurm(job_id, watch)
    except BaseException:
        with contextlib.suppress(OSError):
            subprocess.run(["scancel", job_id], check=False)  # noqa: S607
        raise


def _wait_for_slurm(job_id: str, watch: _Watch) -> None:
    failed_polls = 0
    # Until the job has ended, not until all have answered: a rank that is ending still writes its logs.
    while True:
        watch.report()
        time.sleep(POLL_S)
        command = ["squeue", "--noheader", f"--jobs={job_id}"]
        queue = subprocess.run(command, capture_output=True, text=True, check=False)
        # A job that ended some minutes ago is no longer known.
        if "Invalid job id" in queue.stderr or (queue.returncode == 0 and not queue.stdout.strip()):
            break
        failed_polls = failed_polls + 1 if queue.returncode else 0
        if failed_polls == _MAX_FAILED_POLLS:
            raise WorkerError(f"Slurm does not answer ({queue.stderr.strip()}); job {job_id} was to be cancelled")
    deadline_s = time.monotonic() + min(SETTLE_S, 6 * POLL_S)
    while watch.report() < len(watch.tasks) and time.monotonic() < deadline_s:
        time.sleep(POLL_S / 10)


def main(folder: str) -> None:
    """Run on a Slurm node: the rank that the array's number names."""
    job = read_job(Path(folder))
    if job.slurm is None:
        raise UserError(f"{folder}: not a job for Slurm")
    _slurm_executor(job.slurm, Path(folder), job).run()


if __name__ == "__main__":
    main(sys.argv[1])
