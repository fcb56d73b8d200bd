"""The launch files: the batch script with stand-ins for Slurm's programs, the manifest against what it has to say."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from codegemma.cli.train import command
from codegemma.recipes import load_recipe

ROOT = Path(__file__).parents[1]
# Takes the place of srun: notes what it was told, does what the test says for each start, and ends with its code.
SRUN = """
import json, os, sys
from pathlib import Path
here = Path(os.environ["FAKE_SLURM"])
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
number = len((here / "calls").read_text().splitlines()) - 1
code, step = json.loads(os.environ["FAKE_ENDS"])[number]
if step:
    (Path(os.environ["FAKE_OUT"]) / "checkpoints" / str(step)).mkdir(parents=True)
sys.exit(code)
"""
SCONTROL = """
import os, sys
from pathlib import Path
(Path(os.environ["FAKE_SLURM"]) / "requeued").write_text(" ".join(sys.argv[1:]))
"""
CODEGEMMA = "import sys; sys.exit('only srun starts it')"


def submit(tmp_path: Path, ends: list[tuple[int, int]]) -> tuple[int, list[list[str]], str]:
    """Run the batch script as Slurm does on the first node; each start ends with a code, after a checkpoint or none."""
    import json

    programs = tmp_path / "bin"
    programs.mkdir()
    for name, program in {"srun": SRUN, "scontrol": SCONTROL, "codegemma": CODEGEMMA}.items():
        (programs / name).write_text(f"#!{sys.executable}\n{program}")
        (programs / name).chmod(0o755)
    environment = {
        **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "FAKE_SLURM": str(tmp_path), "SLURM_JOB_ID": "77",
        "FAKE_OUT": str(tmp_path / "run"), "FAKE_ENDS": json.dumps(ends), "RESTART_PAUSE_S": "0",
    }  # fmt: skip
    script = ["bash", str(ROOT / "launch/slurm.sbatch"), "--data", "data dir", "--out", str(tmp_path / "run")]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False, timeout=60)
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    return done.returncode, calls, done.stderr


def test_batch_script_starts_the_tasks_with_what_it_was_given(tmp_path: Path) -> None:
    code, calls, _ = submit(tmp_path, [(0, 5)])
    assert code == 0
    told = ["codegemma", "train", "--data", "data dir", "--out", str(tmp_path / "run"), "--cluster", "auto"]
    assert calls == [["--kill-on-bad-exit=1", "--export=ALL", *told, "--preempted-code", "75"]]


def test_batch_script_begins_again_from_the_newest_checkpoint(tmp_path: Path) -> None:
    code, calls, said = submit(tmp_path, [(137, 5), (134, 9), (0, 12)])
    assert (code, len(calls)) == (0, 3)
    assert "a task ended with code 137; all begin again from step 5" in said


def test_batch_script_gives_up_when_restarts_do_not_help(tmp_path: Path) -> None:
    code, calls, said = submit(tmp_path, [(137, 5), (1, 0), (1, 0), (1, 0), (1, 0)])
    assert (code, len(calls)) == (1, 4)
    assert "3 restarts in a row ended (code 1) without a checkpoint beyond step 5" in said


@pytest.mark.parametrize("final", [2, 3, 4, 5, 130])
def test_batch_script_does_not_try_again_what_cannot_be_helped(tmp_path: Path, final: int) -> None:
    code, calls, _ = submit(tmp_path, [(final, 5)])
    assert (code, len(calls)) == (final, 1)


def test_preempted_run_is_queued_again(tmp_path: Path) -> None:
    code, calls, _ = submit(tmp_path, [(75, 5)])
    assert (code, len(calls)) == (0, 1)
    assert (tmp_path / "requeued").read_text() == "requeue 77"


def test_kubernetes_manifest_asks_for_whole_slices_and_options_that_exist() -> None:
    manifest: dict[str, Any] = yaml.safe_load((ROOT / "launch/kubernetes-tpu.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    [slices] = manifest["spec"]["replicatedJobs"]
    job = slices["template"]["spec"]
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    wide, high = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    chips = int(container["resources"]["limits"]["google.com/tpu"])
    assert job["completions"] == job["parallelism"] == wide * high // chips
    assert job["completionMode"] == "Indexed"
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] >= 60
    options = dict(argument[2:].split("=", 1) for argument in container["args"][1:])
    assert {f"--{name}" for name in options} <= {name for option in command.params for name in option.opts}
    assert options["set"] == f"train.mesh={slices['replicas']},-1,1"
    load_recipe(options["recipe"])
    ignored = job["podFailurePolicy"]["rules"][1]
    assert ignored["action"] == "Ignore"
    assert ignored["onExitCodes"]["values"] == [int(options["preempted-code"])]


def test_container_file_installs_extras_that_exist() -> None:
    import tomllib

    text = (ROOT / "Containerfile").read_text()
    [default] = [line.partition("=")[2] for line in text.splitlines() if line.startswith("ARG EXTRAS=")]
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(default.split(",")) <= known.keys()
    assert 'ENTRYPOINT ["codegemma"]' in text
