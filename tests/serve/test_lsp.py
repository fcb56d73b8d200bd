"""The language server over its pipe, with pygls' own client: ghost text, menus, cancellation, acceptance, documents."""

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.client import LanguageClient
from tests.serve.conftest import SOURCE

MIDDLE = "st - second"
AT = SOURCE.index(MIDDLE)
BEFORE, AFTER = SOURCE[:AT], SOURCE[AT + len(MIDDLE) :]
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT)))}
PARROT = (sys.executable, "-m", "tests.serve.lsp_parrot")


def find_position(text: str) -> types.Position:
    line = text.rpartition("\n")[2]
    return types.Position(text.count("\n"), len(line.encode("utf-16-le")) // 2)


class Client(LanguageClient):
    """An editor that knows the protocol and nothing else."""

    told: Any

    @property
    def process(self) -> Any:
        return self._server

    def open(self, uri: str, text: str, language: str = "python") -> None:
        item = types.TextDocumentItem(uri, types.LanguageKind(language), 1, text)
        self.text_document_did_open(types.DidOpenTextDocumentParams(item))

    def type(self, uri: str, at: types.Position, text: str, until: types.Position | None = None) -> None:
        change = types.TextDocumentContentChangePartial(types.Range(at, until or at), text)
        identifier = types.VersionedTextDocumentIdentifier(2, uri)
        self.text_document_did_change(types.DidChangeTextDocumentParams(identifier, [change]))

    def ask(self, uri: str, at: types.Position, kind: int = 2, chosen: types.SelectedCompletionInfo | None = None):
        context = types.InlineCompletionContext(types.InlineCompletionTriggerKind(kind), chosen)
        params = types.InlineCompletionParams(context, types.TextDocumentIdentifier(uri), at)
        return self.text_document_inline_completion_async(params)

    async def run(self, command: str, *arguments: object):
        return await self.workspace_execute_command_async(types.ExecuteCommandParams(command, list(arguments)))

    async def wait_for_status(self, is_wanted) -> Any:
        for _ in range(6000):
            status = await self.run("codegemma.status")
            assert not status["failure"], status["failure"]
            if is_wanted(status):
                return status
            await asyncio.sleep(0.05)
        raise AssertionError(f"never came: {status}")


@asynccontextmanager
async def connect(*command: str, folder: Path | None = None, encodings=None):
    client = Client("test", "1")
    await client.start_io(*command, env=ENVIRONMENT, cwd=ROOT)
    uri = folder.as_uri() if folder else None
    general = types.GeneralClientCapabilities(position_encodings=encodings)
    capabilities = types.ClientCapabilities(general=general)
    try:
        client.told = await client.initialize_async(types.InitializeParams(capabilities, root_uri=uri))
        client.initialized(types.InitializedParams())
        yield client
        await client.shutdown_async(None)
        client.exit(None)
    finally:
        if sys.exc_info()[0] is not None and client.process.returncode is None:
            client.process.kill()
        if client.process.returncode is None:
            await asyncio.wait_for(client.process.wait(), 30)
        await client.stop()
        client.process._transport.close()


def run(test, *command: str, **more) -> None:
    async def whole() -> None:
        async with connect(*(command or (*PARROT, "0")), **more) as client:
            await client.wait_for_status(lambda status: status["ready"])
            await test(client)

    asyncio.run(asyncio.wait_for(whole(), 300))


def test_ghost_text_is_told_counted_and_retained():
    async def test(client: Client) -> None:
        assert client.told.capabilities.inline_completion_provider is not None
        assert client.told.capabilities.text_document_sync.change is types.TextDocumentSyncKind.Incremental
        client.open("file:///a.py", BEFORE + AFTER)
        at = find_position(BEFORE)
        [item] = await client.ask("file:///a.py", at)
        assert (item.insert_text, item.range) == (MIDDLE, types.Range(at, at))
        client.type("file:///a.py", at, item.insert_text)
        await client.run(item.command.command, *item.command.arguments)
        status = await client.wait_for_status(
            lambda status: 'event="retained",language="python"} 1.0' in status["metrics"]
        )
        assert 'event="shown",language="python"} 1.0' in status["metrics"]
        assert 'event="accepted",language="python"} 1.0' in status["metrics"]
        assert f"codegemma_accepted_characters_total {len(MIDDLE)}.0" in status["metrics"]

    run(test)


def test_what_is_typed_in_utf_16_arrives_and_lines_end_as_the_document_does():
    async def test(client: Client) -> None:
        uri, text = "file:///a%20b.py", "s = '😋\x0c'\r\n" + SOURCE[: SOURCE.index("second):")].replace("\n", "\r\n")
        client.open(uri, text)
        [item] = await client.ask(uri, find_position(text))
        assert item.insert_text.startswith("second):\r\n")
        assert "\n" not in item.insert_text.replace("\r\n", "")
        client.type(uri, types.Position(0, 5), "def add(first", types.Position(0, 9))
        [item] = await client.ask(uri, types.Position(0, 18))
        assert item.insert_text.startswith(", second)")

    run(test)


@pytest.mark.parametrize("encoding", list(types.PositionEncodingKind))
def test_columns_count_in_the_unit_that_was_agreed(encoding):
    async def test(client: Client) -> None:
        assert client.told.capabilities.position_encoding == encoding
        text = "s = 'é😋'; def add(fir"
        client.open("file:///a.py", text)
        width = {"utf-8": 1, "utf-16": 2, "utf-32": 4}[encoding.value]
        column = len(text.encode({1: "utf-8", 2: "utf-16-le", 4: "utf-32-le"}[width])) // width
        [item] = await client.ask("file:///a.py", types.Position(0, column))
        assert item.insert_text.startswith("st, second)")

    run(test, encodings=[encoding])


def test_a_menu_goes_on_with_the_word():
    async def test(client: Client) -> None:
        client.open("file:///a.py", BEFORE + AFTER)
        at, document = find_position(BEFORE), types.TextDocumentIdentifier("file:///a.py")
        told = await client.text_document_completion_async(types.CompletionParams(document, at))
        assert isinstance(told, types.CompletionList)
        [item] = told.items
        start = types.Position(at.line, at.character - len("fir"))
        assert item.text_edit == types.TextEdit(types.Range(start, at), "fir" + MIDDLE)
        assert item.filter_text == "fir" + MIDDLE

    run(test)


def test_ghost_text_goes_on_with_what_a_menu_has_chosen():
    async def test(client: Client) -> None:
        client.open("file:///a.py", BEFORE + AFTER)
        at = find_position(BEFORE)
        span = types.Range(types.Position(at.line, at.character - len("fir")), at)
        [item] = await client.ask("file:///a.py", at, chosen=types.SelectedCompletionInfo(span, "first"))
        assert (item.insert_text, item.range) == ("first - second", span)

    run(test)


def test_open_documents_are_shown_by_their_path_in_the_folder_and_secrets_never(tmp_path):
    async def test(client: Client) -> None:
        for name, text in (
            ("lib/other.py", "x = 1\n"),
            (".env", "KEY=1\n"),
            ("key.py", "token = 'ghp_" + "a1B2c3D4e5F6" * 3 + "'\n"),
        ):
            client.open((tmp_path / name).as_uri(), text)
        uri = (tmp_path / "main.py").as_uri()
        client.open(uri, BEFORE + AFTER)
        assert await client.ask(uri, find_position(BEFORE))
        status = await client.run("codegemma.status")
        assert "lib/other.py" in status["why"]["neighbors"]
        assert not {".env", "key.py"} & set(status["why"]["neighbors"])
        uri = (tmp_path / ".env").as_uri()
        assert await client.ask(uri, types.Position(0, 3)) == []
        assert "secret" in (await client.run("codegemma.status"))["why"]["place"]

    (tmp_path / "lib").mkdir()
    run(test, folder=tmp_path)


def test_a_cancelled_request_ends_and_the_next_is_answered():
    async def test(client: Client) -> None:
        client.open("file:///a.py", "def add(")
        waiting = asyncio.ensure_future(client.ask("file:///a.py", types.Position(0, 8)))
        await asyncio.sleep(0.5)
        number = next(reversed(client.protocol._request_futures))
        client.cancel_request(types.CancelParams(number))
        with pytest.raises(JsonRpcException, match="cancel"):
            await waiting
        client.open("file:///b.py", BEFORE + AFTER)
        assert await client.ask("file:///b.py", find_position(BEFORE), kind=1)

    run(test, *PARROT, "0.2")


def test_a_document_that_changes_meanwhile_is_not_answered():
    async def test(client: Client) -> None:
        client.open("file:///a.py", "def add(")
        waiting = asyncio.ensure_future(client.ask("file:///a.py", types.Position(0, 8)))
        await asyncio.sleep(0.5)
        client.type("file:///a.py", types.Position(0, 8), "x")
        assert await waiting == []

    run(test, *PARROT, "0.1")


def test_unknown_documents_and_places_outside_are_no_error():
    async def test(client: Client) -> None:
        assert await client.ask("file:///never-opened.py", types.Position(3, 3)) == []
        client.type("file:///never-opened.py", types.Position(0, 0), "x")
        client.open("untitled:Untitled-1", "def add(fir")
        assert await client.ask("untitled:Untitled-1", types.Position(99, 99))

    run(test)


def test_kinds_of_triggers_of_the_proposal_are_taken():
    from codegemma.serve.lsp import make_converter

    kinds = types.InlineCompletionTriggerKind
    context = {"triggerKind": 0}
    params = {"context": context, "textDocument": {"uri": "file:///a"}, "position": {"line": 0, "character": 0}}
    for number, kind in ((0, kinds.Invoked), (1, kinds.Invoked), (2, kinds.Automatic)):
        context["triggerKind"] = number
        assert make_converter().structure(params, types.InlineCompletionParams).context.trigger_kind is kind


@pytest.mark.slow
def test_codegemma_lsp_serves_the_shipped_base(tmp_path):
    async def test(client: Client) -> None:
        uri = (tmp_path / "a.py").as_uri()
        client.open(uri, "import os\n\n\ndef read(path):\n    with open(path) as f:\n        return f.re")
        await client.ask(uri, types.Position(5, 19), kind=1)
        status = await client.run("codegemma.status")
        assert status["why"]["source"] == "engine"

    base = resources.files("codegemma.bases").joinpath("tiny")
    run(test, sys.executable, "-m", "codegemma", "lsp", str(base), "--stdio", folder=tmp_path)


def test_a_model_that_is_missing_is_told_to_the_editor(tmp_path):
    async def whole() -> None:
        async with connect(sys.executable, "-m", "codegemma", "lsp", str(tmp_path / "none")) as client:
            for _ in range(600):
                status = await client.run("codegemma.status")
                if status["failure"]:
                    break
                await asyncio.sleep(0.05)
            assert "none" in status["failure"]

    asyncio.run(asyncio.wait_for(whole(), 120))


def test_an_editor_that_leaves_while_the_model_is_loaded_waits_for_nothing():
    async def whole() -> None:
        base = resources.files("codegemma.bases").joinpath("tiny")
        async with connect(sys.executable, "-m", "codegemma", "lsp", str(base)) as client:
            await asyncio.sleep(1)
            status = await client.run("codegemma.status")
            assert not status["ready"]
        assert client.process.returncode == 0

    asyncio.run(asyncio.wait_for(whole(), 120))
