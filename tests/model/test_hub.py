"""Ids of the hub: against a server that speaks its protocol, downloads are checked, resumed, and refusals explained."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pytest
from tests.http_server import listen
from tests.model.drawn import MQA, assert_same_bits, write_drawn

from codegemma.model.config import GemmaConfig
from codegemma.model.formats.table import open_weights

pytest.importorskip("huggingface_hub", reason="hub ids need huggingface_hub: make setup-dev")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """The hub, as far as a download needs it: https://huggingface.co/docs/hub/api and the headers of its `resolve`."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.address = ""
        self.refusal: tuple[int, str] | None = None  # status and X-Error-Code
        self.token: str | None = None  # what must be shown
        self.cut_after: int | None = None  # bytes after which the next large answer breaks off
        self.cuts = 1
        self.damage = False
        self.hangs_up = False  # when it is asked of a file, without its content
        self.ranges: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        if self.hub.hangs_up:
            self.close_connection = True
            return
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        hub = self.hub
        is_refused = hub.refusal is not None and (
            hub.token is None or self.headers.get("Authorization") != f"Bearer {hub.token}"
        )
        if is_refused and hub.refusal is not None:
            status, code = hub.refusal
            self._send(status, {"X-Error-Code": code, "X-Error-Message": code}, b"{}", with_body)
            return
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/"):
            self._send(200, {"Content-Type": "application/json"}, self._list(path), with_body)
            return
        content = hub.files.get(path.partition(f"/resolve/{COMMIT}/")[2] or path.partition("/resolve/main/")[2])
        if content is None:
            self._send(404, {"X-Error-Code": "EntryNotFound"}, b"", with_body)
            return
        self._send_file(content, with_body)

    def _list(self, path: str) -> bytes:
        files = [{"rfilename": name, "size": len(content)} for name, content in self.hub.files.items()]
        entries = [{"type": "file", "path": f["rfilename"], "size": f["size"], "oid": "0" * 40} for f in files]
        plain = entries if "/tree/" in path else {"id": "owner/model", "sha": COMMIT, "siblings": files}
        return json.dumps(plain).encode()

    def _send_file(self, content: bytes, with_body: bool) -> None:
        hub, checksum = self.hub, hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{checksum}"', "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range", "")
        if with_body and asked:
            hub.ranges.append(asked)
            if hub.damage:
                content = bytes([content[0] ^ 1]) + content[1:]
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._send(206, headers, content[start:], with_body)
            return
        if with_body and hub.damage and len(content) > 10_000:
            content = bytes([content[0] ^ 1]) + content[1:]
        self._send(200, headers, content, with_body)

    def _send(self, status: int, headers: dict[str, str], body: bytes, with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not with_body:
            return
        hub = self.hub
        if hub.cuts and hub.cut_after is not None and len(body) > 2**20:
            self.wfile.write(body[: hub.cut_after])
            self.wfile.flush()
            hub.cuts -= 1
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(body)


@pytest.fixture(scope="module")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("hub") / "model"
    write_drawn(folder, "hf", MQA, files={"README.md": b"card"})
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(model_files: dict[str, bytes]) -> Iterator[Hub]:
    hub = Hub(dict(model_files))
    with listen(type("Bound", (_Handler,), {"hub": hub})) as hub.address:
        yield hub


def convert(hub: Hub, folder: Path, model: str = "owner/model", **more: str) -> subprocess.CompletedProcess[str]:
    """Run `codegemma convert` on a hub id, in a process of its own: the library reads its settings once."""
    keep = {"PATH", "PYTHONPATH", "LD_LIBRARY_PATH"}
    settings = {
        "HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "hf"), "XDG_CACHE_HOME": str(folder / "cache"),
        "HOME": str(folder), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "JAX_PLATFORMS": "cpu",
    }  # fmt: skip
    env = {name: value for name, value in os.environ.items() if name in keep} | settings | more
    command = [sys.executable, "-m", "codegemma", "convert", model, "out", "--to", "hf"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120)


def test_an_id_is_downloaded_once_and_its_name_stands_in_the_lineage(hub: Hub, tmp_path: Path) -> None:
    done = convert(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    drawn = write_drawn(tmp_path / "again", "hf", MQA)
    assert_same_bits(open_weights(tmp_path / "out"), drawn)
    assert (tmp_path / "out/README.md").read_bytes() == b"card"
    hub.files.clear()
    assert convert(hub, tmp_path, HF_HUB_OFFLINE="1").returncode == 0


LARGE = GemmaConfig(9000, 512, 1, num_heads=2, num_kv_heads=1, head_dim=64, mlp_dim=2048)  # 16 MB


@pytest.fixture(scope="module")
def large_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("large") / "model"
    write_drawn(folder, "hf", LARGE)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_broken_connection_goes_on_where_it_was(hub: Hub, large_files: dict[str, bytes], tmp_path: Path) -> None:
    hub.files, hub.cut_after = large_files, 5 * 2**20
    done = convert(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert hub.ranges == ["bytes=0-", f"bytes={5 * 2**20}-"]
    assert (tmp_path / "out/model.safetensors").read_bytes() == large_files["model.safetensors"]


def test_a_killed_download_goes_on_in_another_process(hub: Hub, large_files: dict[str, bytes], tmp_path: Path) -> None:
    """What a killed process leaves is the beginning of the file."""
    hub.files, content = large_files, large_files["model.safetensors"]
    checksum = hashlib.sha256(content).hexdigest()
    blobs = tmp_path / "hf/hub/models--owner--model/blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{checksum}.codegemma-partial").write_bytes(content[: 7 * 2**20])
    done = convert(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert hub.ranges == [f"bytes={7 * 2**20}-"]
    assert (tmp_path / "out/model.safetensors").read_bytes() == content
    assert [path.name for path in blobs.iterdir() if "partial" in path.name] == []


def test_a_connection_that_brings_nothing_is_named(hub: Hub, large_files: dict[str, bytes], tmp_path: Path) -> None:
    hub.files, hub.cut_after, hub.cuts = large_files, 0, 100
    done = convert(hub, tmp_path)
    assert done.returncode == 3
    assert "run the same command again: it goes on where it was" in done.stderr


def test_a_hub_that_hangs_up_is_named(hub: Hub, large_files: dict[str, bytes], tmp_path: Path) -> None:
    hub.files, hub.hangs_up = large_files, True
    done = convert(hub, tmp_path)
    assert done.returncode == 3
    assert "run the same command again: it goes on where it was" in done.stderr


@pytest.mark.parametrize("is_large", [False, True])
def test_a_damaged_file_is_named_removed_and_comes_anew(
    is_large: bool, hub: Hub, large_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.files = large_files if is_large else hub.files
    hub.damage = True
    done = convert(hub, tmp_path)
    assert done.returncode == 3
    assert "model.safetensors was damaged on its way here" in done.stderr
    assert not (tmp_path / "out").exists()
    hub.damage = False
    assert convert(hub, tmp_path).returncode == 0


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_says_whose_terms_and_which_token(hub: Hub, status: int, tmp_path: Path) -> None:
    hub.refusal = status, "GatedRepo"
    done = convert(hub, tmp_path, "google/codegemma-2b")
    assert done.returncode == 3
    for word in ("gated", "huggingface.co/google/codegemma-2b", "ai.google.dev/gemma/terms", "HF_TOKEN"):
        assert word in done.stderr
    hub.token = "hf_granted"
    assert convert(hub, tmp_path, "google/codegemma-2b", HF_TOKEN="hf_granted").returncode == 0
    lineage = json.loads((tmp_path / "out/lineage.json").read_text())
    assert [step["act"] for step in lineage["steps"]] == ["convert"]


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((404, "RepoNotFound"), "the hub has no model of that name that this token may see"),
        ((404, "RevisionNotFound"), "has no revision 'v9'"),
        ((500, ""), "then run again: a download goes on where it was"),
    ],
)
def test_other_refusals_say_what_to_do(hub: Hub, refusal: tuple[int, str], words: str, tmp_path: Path) -> None:
    hub.refusal = refusal
    done = convert(hub, tmp_path, "owner/model@v9")
    assert done.returncode == 3
    assert words in done.stderr


def test_a_hub_out_of_reach_is_named(hub: Hub, tmp_path: Path) -> None:
    done = convert(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 3
    assert "the hub cannot be reached" in done.stderr


def test_a_target_that_holds_something_else_is_refused_before_the_download(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("years of work")
    done = convert(hub, tmp_path)
    assert done.returncode == 4
    assert "out exists and is not a model folder" in done.stderr
    assert not (tmp_path / "hf").exists()
