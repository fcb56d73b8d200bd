"""Stores for tests: S3 and Google Cloud Storage emulated on this machine, each behind a wire that can be cut."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

# Before gcsfs: it reads this when it is imported.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

from gcp_storage_emulator import server as gs_server
from tests.stores.wires import Wire, wire_to

from codegemma import places
from codegemma.places import parse_place

_read_data_as_mail = gs_server._read_data


def _read_data(handler: Any, query: dict[str, Any]) -> Any:
    """Take an upload apart by its boundary alone.

    The emulator reads it as an e-mail, where a line may end in a carriage return: of content whose last byte is one,
    as in one binary file of 256, that byte is lost.
    """
    if not handler.headers.get("Content-Type", "").startswith("multipart/related"):
        return _read_data_as_mail(handler, query)
    boundary = b"--" + handler.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
    raw = gs_server._read_raw_data(handler).removeprefix(boundary + b"\n").removesuffix(b"\n" + boundary + b"--")
    meta, content = raw.split(b"\n" + boundary + b"\n", 1)
    head, content = content.split(b"\n\n", 1)
    kind = head.partition(b":")[2].strip().decode()
    return {"meta": json.loads(meta.split(b"\n\n", 1)[1]), "content": content, "content-type": kind}


@pytest.fixture(scope="session")  # the stores' libraries keep their connections from test to test
def wires() -> Iterator[dict[str, Wire]]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    s3 = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    s3.start()
    gs_server._read_data = _read_data
    gs = gs_server.create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
    gs.start()
    with wire_to(s3.get_host_and_port()) as s3_wire, wire_to(gs._api._httpd.server_address) as gs_wire:
        yield {"s3": s3_wire, "gs": gs_wire}
    gs.stop()
    s3.stop()


@pytest.fixture(params=["s3", "gs"])
def wire(request, wires: dict[str, Wire], monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    for name, one in wires.items():
        variable = {"s3": "AWS_ENDPOINT_URL", "gs": "STORAGE_EMULATOR_HOST"}[name]
        monkeypatch.setenv(variable, f"http://127.0.0.1:{one.server_address[1]}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setitem(places._STORE_OPTIONS["gs"], "token", "anon")
    monkeypatch.setattr(places, "PAUSE_S", 0.01)
    wire = wires[request.param]
    wire.cuts = wire.cut_bytes = wire.connections_cut = 0
    yield wire
    wire.cuts = 0


@pytest.fixture
def out(request, wire: Wire) -> Path:
    """An address nobody has used."""
    scheme = request.node.callspec.params["wire"]
    place = parse_place(f"{scheme}://bucket/{request.node.originalname}")
    if scheme == "s3" and not place.fs.exists("bucket"):  # type: ignore[attr-defined]
        place.fs.mkdir("bucket")  # type: ignore[attr-defined]
    return place
