"""The verbs on addresses, as a user types them: processes of their own, a store in and a store out."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.cli.test_train_complete import RECIPE
from tests.corpus.repositories import make_form, write

from codegemma.adapt import AdaptJob, adapt
from codegemma.cli.main import cli
from codegemma.errors import InputError
from codegemma.feed.frozen import read_frozen
from codegemma.files import write_whole
from codegemma.places import list_objects
from codegemma.published import MANIFEST, read_publication
from codegemma.recipe import override
from codegemma.recipes import load_recipe
from codegemma.records import Pack, Split
from codegemma.shards import read_records

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

FILES: dict[str, str | bytes] = {
    f"d{n % 4}/m{n}.py": "".join(f"def f{n}_{i}(x):\n    return x + {n * i}\n\n\n" for i in range(8)) for n in range(24)
}
# Dies as a machine does, when everything but the manifest is uploaded.
KILLED = """
import os, signal, sys
from codegemma import published
from codegemma.cli.main import main
put_bytes = published.put_bytes
def die(place, data):
    os.kill(os.getpid(), signal.SIGKILL) if place.name == "build.json" else put_bytes(place, data)
published.put_bytes = die
sys.argv = ["codegemma", *sys.argv[1:]]
main()
"""


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, wire: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FSSPEC_GS_TOKEN", "anon")


def codegemma(*arguments: object, code: int = 0, program: tuple[str, ...] = ("-m", "codegemma")) -> str:
    command = [sys.executable, *program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def call(*arguments: object) -> str:
    """Call a verb in this process, where JAX is loaded once."""
    done = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def fill(place: Path, tmp_path: Path) -> None:
    write_whole(place / "packed/app.tar.gz", make_form(tmp_path, "app.tar.gz", FILES).read_bytes())
    write_whole(place / "loose/main.py", b"def main():\n    print('hello')\n" * 4)
    write_whole(place / "packed/damaged.zip", b"PK no archive")


def marks(place: Path) -> dict[str, str]:
    """Tell when each object was written."""
    infos = place.fs.find(place.path, detail=True)  # type: ignore[attr-defined]
    return {key: str(info.get("LastModified") or info.get("generation")) for key, info in infos.items()}


def test_build_of_a_store_into_a_store_is_killed_finished_and_found_done(out: Path, tmp_path: Path) -> None:
    fill(out / "in", tmp_path)
    arguments = ["build", out / "in/packed/", out / "in/loose", "--out", out / "out", "--workers", 2]
    codegemma(*arguments, code=-signal.SIGKILL, program=("-c", KILLED))
    uploaded = marks(out / "out")
    assert any("packs-train.parquet/part-00000-" in key for key in uploaded)
    assert read_publication(out / "out") is None

    told = codegemma(*arguments)
    assert f"report   {out}/out/report.html" in told
    assert f"next     codegemma train --data {out}/out " in told
    assert "1  read: corrupt_archive" in told
    after = marks(out / "out")
    assert {key for key in after if uploaded.get(key) != after[key]} <= {
        key
        for key in after
        if key.endswith((MANIFEST, "report.html", ".lock")) or "/corpus-" in key or "/packs-" in key
    }

    again = json.loads(codegemma(*arguments, "--json"))
    assert (again["corpus"]["is_reused"], again["packs"]["is_reused"]) == (True, True)
    assert marks(out / "out") == after
    # So it is on a machine that has nothing.
    elsewhere = json.loads(codegemma(*arguments, "--json", "--work", tmp_path / "machine"))
    assert elsewhere["packs"]["splits"] == again["packs"]["splits"]
    assert marks(out / "out") == after


@pytest.mark.parametrize("wire", ["s3"], indirect=True)
def test_readers_of_a_build_take_its_address(out: Path, tmp_path: Path) -> None:
    repo = write(tmp_path / "repo", FILES)
    (tmp_path / "own.py").write_text(RECIPE)
    data, run, rows = out / "data", tmp_path / "run", out / "rows"
    call("build", repo, "--out", data, "--workers", 1)
    trained = call("train", "--data", data, "--out", run, "--recipe", tmp_path / "own.py")
    assert f"--suite heldout --data {data} " in trained
    traced = json.loads(call("trace", run, "--data", data, "--step", 1, "--row", 0, "--token", 3, "--json"))
    assert traced["is_checked"]
    assert traced["filters"]["stages"]["read"] == 0
    assert traced["piece"]["repo"] == "repo"
    assert "wanted" not in call("freeze", run, "--data", data, "--out", rows)
    frozen = list(read_frozen(rows))
    before = list_objects(rows)
    assert len(frozen) == 6
    call("freeze", run, "--data", data, "--out", rows)
    assert list_objects(rows).keys() == before.keys()
    recipe = ["--data", data, "--recipe", tmp_path / "own.py", "--steps", 2]
    for _ in range(2):  # the second finds what the first has done
        call("freeze", *recipe, "--set", "train.seed=1", "--out", out / "others")
    assert len(list(read_frozen(out / "others"))) == 2
    told = call(
        "evaluate", run / "model", "--suite", "heldout", "--data", data, "--out", tmp_path / "figures", "--limit", 4
    )
    assert "heldout" in told


@pytest.mark.parametrize("wire", ["s3"], indirect=True)
def test_adapt_makes_its_data_of_a_repository_in_a_store(out: Path, tmp_path: Path) -> None:
    for name, content in FILES.items():
        write_whole(out / "repo" / name, str(content).encode())
    recipe = override(load_recipe("tiny"), ["corpus.heldout_share=0.25"])
    control = tmp_path / "no-control"
    # The control's data are made after those of the job and before training, which would take a minute.
    with pytest.raises(InputError, match="no-control: nothing there"):
        adapt(AdaptJob((out / "repo",), tmp_path / "job", recipe, base=None, other=control, minutes=None))
    sides = {side: list(read_records(tmp_path / f"job/data/packs-{side}.parquet", Pack)) for side in Split}
    assert all(sides.values())
    assert {file.path for packs in sides.values() for pack in packs for file in pack.files} == set(FILES)


@pytest.mark.parametrize("wire", ["s3"], indirect=True)
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["forget", "s3://bucket/x", "--repo", "r"], 3, "wanted a path of this machine"),
        (["adapt", "s3://nobody-has-this/x", "--out", "here"], 3, "no such bucket"),
        (["adapt", "s3://bucket/x", "--out", "here"], 3, "s3://bucket/x: nothing there"),
        (["adapt", ".", "--out", "s3://bucket/x"], 3, "wanted a path of this machine"),
        (["train", "--data", "s3://bucket/nothing", "--out", "here", "--minutes", "1"], 3, "no finished build here"),
        (["trace", "--data", "s3://bucket/x", "--step", "1"], 2, "which run read s3://bucket/x"),
        (["build", "s3://nobody-has-this/x", "--out", "here"], 3, "no such bucket"),
        (["build", "ftp://host/x", "--out", "here"], 3, "wanted a path, or an address that starts with"),
        (["build", ".", "--out", "s3://nobody-has-this/x"], 4, "no such bucket"),
        (["build", ".", "--out", "here", "--work", "there"], 2, "--work is for a build whose --out is an address"),
    ],
)
def test_address_that_will_not_do_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str, out: Path
) -> None:
    write(tmp_path / "empty", {"a.py": "a = 1\n"})
    monkeypatch.chdir(tmp_path / "empty")
    told = codegemma(*arguments, code=code)
    assert message in told
    assert told.count("\n") == 1 or code == 2  # click prints the usage above the line
    assert [path.name for path in Path().iterdir()] == ["a.py"]


@pytest.mark.parametrize("wire", ["s3"], indirect=True)
def test_store_without_credentials_is_named_with_what_to_do(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    repo = write(tmp_path / "repo", FILES)
    told = codegemma("build", repo, "--out", out / "data", code=3)
    assert f"{out}/data" in told
    assert "look at the connection and the credentials" in told


def test_missing_extra_is_named_with_the_command_that_brings_it(tmp_path: Path) -> None:
    program = "import sys; sys.modules['upath'] = None; from codegemma.cli.main import main; main()"
    told = codegemma("build", "s3://b/in", "--out", tmp_path / "x", code=2, program=("-c", program))
    assert "pip install codegemma[cloud]" in told
    assert os.listdir(tmp_path) == []  # noqa: PTH208
