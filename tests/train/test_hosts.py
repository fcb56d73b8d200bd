"""Two real processes train as one does, and a run goes on with another number of them and on another mesh."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from codegemma.errors import InputError
from codegemma.text.tokenizer import Tokenizer
from codegemma.train.guards import InterruptedRun
from codegemma.train.hosts import Cluster, act_first, act_together, agree, share_numbers
from codegemma.train.loop import train
from codegemma.train.manifest import await_manifest
from codegemma.train.meters import read_metrics

from .test_loop import stop_at
from .two_processes import make_job

TWO_DEVICES_EACH = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}


def find_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def run_two(folder: Path, *runs: str) -> list[list[str]]:
    # A step is compiled once for all runs on a mesh.
    environment = os.environ | TWO_DEVICES_EACH | {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    command = [sys.executable, "-m", "tests.train.two_processes", find_address()]
    both = [
        subprocess.Popen(
            [*command, str(number), str(folder), *runs],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    told = [process.communicate(timeout=540) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert told[1][0] == "", "only the leader speaks"
    return [json.loads(line) for line in told[0][0].splitlines()]


def assert_same_run(one: Path, other: Path) -> None:
    """The same batches, the same curve, the same parameters up to the rounding of sums."""
    mine, theirs = (read_metrics(folder / "metrics.jsonl") for folder in (one, other))
    assert [line["step"] for line in mine] == [line["step"] for line in theirs]
    assert [line["tokens"] for line in mine] == [line["tokens"] for line in theirs]
    for name in ("loss", "gradient_norm"):
        np.testing.assert_allclose([line[name] for line in mine], [line[name] for line in theirs], rtol=2e-4)
    assert read_metrics(one / "rows.jsonl") == read_metrics(other / "rows.jsonl")
    left, right = (load_file(folder / "model/model.safetensors") for folder in (one, other))
    for name in left:
        np.testing.assert_allclose(left[name], right[name], atol=2e-3)


def test_two_processes_train_save_and_go_on_as_one_process_does(
    data: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    tokenizer.save(tmp_path / "tokenizer.json")
    train(make_job(tmp_path, "alone", (1, 1, 1)))
    with pytest.raises(InterruptedRun):
        train(make_job(tmp_path, "grows", (1, 1, 1)), stop_at(5))
    runs = ["moves:1x-1x1:6", "moves:2x1x2:0", "grows:1x-1x1:0", "shrinks:2x2x1:7"]
    assert run_two(tmp_path, *runs) == [
        ["moves", "interrupted and saved at step 6 of 12; the same command goes on from there"],
        ["moves", "resumed 6, ended 12"],
        ["grows", "resumed 5, ended 12"],
        ["shrinks", "interrupted and saved at step 7 of 12; the same command goes on from there"],
    ]
    assert train(make_job(tmp_path, "shrinks", (1, 1, 1))).resumed_step == 7
    for name in ("moves", "grows", "shrinks"):
        assert_same_run(tmp_path / name, tmp_path / "alone")
    samples = [read_metrics(tmp_path / name / "samples.jsonl") for name in ("grows", "alone")]
    assert samples[0] == samples[1] != []


def test_one_process_agrees_with_itself() -> None:
    assert agree(True, False) == (True, False)
    assert share_numbers([7, 3]) == [7, 3]
    assert act_first(lambda: "leader", lambda: "other") == "leader"
    with pytest.raises(ZeroDivisionError):
        act_together(lambda: 1 // 0)


@pytest.mark.parametrize("text", ["", "node1", "node1:8476", "node1:8476,2", ":8476,2,0", "node1:8476,2,2", "a:1,b,c"])
def test_cluster_that_is_not_spelled_out_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"wanted auto, or HOST:PORT,PROCESSES,PROCESS|processes count from 0"):
        Cluster.parse(text)


def test_processes_that_do_not_find_each_other_say_what_to_do() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "OMPI_"))}
    program = (
        "from codegemma.train.hosts import *; import sys\nwith join_cluster(Cluster(), lambda e: print(e) or 7): 1"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment | TWO_DEVICES_EACH, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "did not find each other" in done.stdout + done.stderr
    assert "say --cluster HOST:PORT,PROCESSES,PROCESS on each" in done.stdout + done.stderr


def test_folder_that_the_leader_does_not_share_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegemma.train.manifest._SETTLE_S", 0.2)
    with pytest.raises(InputError, match="must lie on a file system that they share"):
        await_manifest(tmp_path)


@pytest.mark.parametrize(("has_client", "said"), [(True, "True"), (False, "pip install codegemma[pathways]")])
def test_pathways_is_joined_where_its_proxy_is_configured(has_client: bool, said: str) -> None:
    if has_client:
        pytest.importorskip("pathwaysutils", reason="the client is not installed: pip install codegemma[pathways]")
    program = "" if has_client else "import sys; sys.modules['pathwaysutils'] = None\n"
    program += (
        "from codegemma.train.hosts import join_pathways\n"
        "from codegemma.errors import MissingExtraError\n"
        "from jax._src.xla_bridge import _backend_factories\n"
        "try: join_pathways(); print('proxy' in _backend_factories)\n"
        "except MissingExtraError as error: print(error)\n"
    )
    # Nobody is asked before the first array is made, so no proxy need be there.
    environment = os.environ | {"JAX_PLATFORMS": "proxy", "JAX_BACKEND_TARGET": "grpc://127.0.0.1:1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert said in done.stdout, done.stderr


def test_as_many_devices_are_used_as_divide_the_batch_unless_a_mesh_was_chosen() -> None:
    program = (
        "import dataclasses, jax\n"
        "from tests.train.run_job import CHOICES, CONFIG\n"
        "from codegemma.errors import InputError\n"
        "from codegemma.train.placement import count_devices, open_mesh\n"
        "for rows in (4, 6, 3, 5):\n"
        "    print(count_devices(open_mesh(CONFIG, dataclasses.replace(CHOICES, batch_rows=rows))))\n"
        "print(count_devices(open_mesh(CONFIG, dataclasses.replace(CHOICES, batch_rows=3, mesh=(1, 1, 1)))))\n"
        "try: open_mesh(CONFIG, dataclasses.replace(CHOICES, batch_rows=3, mesh=(2, -1, 1)))\n"
        "except InputError as error: print(error)\n"
    )
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    *counts, refused = done.stdout.splitlines()
    # 32 embed_dim are divided by 2 and 4, not by 3.
    assert counts == ["4", "2", "1", "1", "1"]
    assert "3 rows of a batch cannot be divided over 4 devices" in refused
    assert "--set train.mesh=1,1,1 uses one device" in refused
    assert "uses 2 of 4 devices: 6 rows of a batch cannot be divided over 4 devices" in done.stderr


FROZEN = """
import sys, time
from codegemma.train.hosts import Cluster, agree, join_cluster
with join_cluster(Cluster(sys.argv[1], 2, int(sys.argv[2])), lambda error: 9):
    agree(True)
    print("joined", flush=True)
    while True:
        agree(False)
        time.sleep(0.05)
"""


@pytest.mark.parametrize("frozen", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_process_whose_peer_is_frozen_ends_instead_of_waiting(frozen: int) -> None:
    """Not killed, which a socket tells, but stopped: only the missing heartbeats tell."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", FROZEN, find_address()]
    both = [subprocess.Popen([*command, str(n)], env=environment, stdout=subprocess.PIPE, text=True) for n in range(2)]
    try:
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == "joined\n"
        both[frozen].send_signal(signal.SIGSTOP)
        assert both[1 - frozen].wait(timeout=30) != 0
    finally:
        for process in both:
            process.kill()
            process.communicate()
