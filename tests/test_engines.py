"""A build gives the same bytes whoever runs its steps: one, two or three processes, Ray, or Slurm."""

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
from tests.corpus.near_copies import read_library
from tests.corpus.repositories import commit, write
from tests.test_cluster import slurm, slurm_runner  # noqa: F401 (a fixture)

from codegemma.build import build_data
from codegemma.recipe import override
from codegemma.recipes import load_recipe
from codegemma.runner import LocalRunner, Runner

ROOT = Path(__file__).parents[1]
SETTINGS = ("pack.budget_tokens=200", "corpus.near_duplicates=everywhere")
RECIPE = override(load_recipe("tiny"), SETTINGS)


def make_repos(folder: Path) -> list[Path]:
    texts = list(read_library(40).values())
    plain = write(folder / "plain", {f"p{n % 4}/m{n}.py": text for n, text in enumerate(texts[:20])})
    write(plain, {"leak.py": f"token = '{'ghp_'}{'a1B2c3D4e5F6' * 3}'\n", "copy.py": texts[3] + "\ncopied = 1\n"})
    tracked = write(folder / "tracked", {f"q{n % 4}/m{n}.py": text for n, text in enumerate(texts[20:])})
    commit(tracked)
    (tracked / ".git").rename(folder / "bare.git")
    packed = folder / "packed.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(
            write(folder / "packed", {f"r/m{n}.py": text + f"own{n} = {n}\n" for n, text in enumerate(texts[:6])}),
            "packed",
        )
    return [plain, folder / "bare.git", packed]


def read_outputs(out: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(out)): p.read_bytes()
        for p in out.rglob("*")
        if p.is_file() and p.suffix in (".parquet", ".npy", ".npz")
    }


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("engines")
    repos = make_repos(folder)
    build_data(repos, folder / "one", RECIPE)
    outputs = read_outputs(folder / "one")
    assert any(name.startswith("packs-train.parquet/") for name in outputs)
    return repos, outputs


def check(expected: tuple[list[Path], dict[str, bytes]], out: Path, runner: Runner) -> None:
    repos, outputs = expected
    build_data(repos, out, RECIPE, runner)
    assert read_outputs(out) == outputs


@pytest.mark.parametrize("workers", [2, 3])
def test_processes_give_the_bytes_of_one(
    expected: tuple[list[Path], dict[str, bytes]], tmp_path: Path, workers: int
) -> None:
    check(expected, tmp_path / "out", LocalRunner(workers))


def test_slurm_gives_the_bytes_of_one(
    expected: tuple[list[Path], dict[str, bytes]],
    tmp_path: Path,
    slurm: Path,  # noqa: F811
) -> None:
    check(expected, tmp_path / "out", slurm_runner(tmp_path))


@pytest.mark.slow
def test_ray_gives_the_bytes_of_one(expected: tuple[list[Path], dict[str, bytes]], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install codegemma[scale]")
    repos, outputs = expected
    # A process of its own: Ray leaves threads and open files. The path of a socket is short, pytest's folders are long.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as sessions:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "RAY_TMPDIR": sessions}
        runner = f"ray:address=local,workers=2,memory_gb=1,folder={tmp_path / 'jobs'}"
        command = [sys.executable, "-m", "codegemma", "build", *map(str, repos), "--out", str(tmp_path / "out")]
        command += ["--runner", runner, *(word for setting in SETTINGS for word in ("--set", setting))]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    assert read_outputs(tmp_path / "out") == outputs
