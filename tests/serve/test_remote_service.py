"""`codegemma lsp --url`: an editor's language server that asks a running server, which loads the one model."""

import asyncio
import sys

import pytest
from tests.serve.conftest import SOURCE, serve
from tests.serve.parrot import Parrot
from tests.serve.test_lsp import AFTER, BEFORE, MIDDLE, Client, connect, find_position

from codegemma.errors import InputError
from codegemma.serve.asks import Caller, InfillAsk
from codegemma.serve.keys import add_key, read_keys
from codegemma.serve.remote_service import RemoteService
from codegemma.wire import ServerError


def drive(url: str, test, *more: str) -> None:
    async def whole() -> None:
        async with connect(sys.executable, "-m", "codegemma", "lsp", "--url", url, "--stdio", *more) as client:
            await test(client)

    asyncio.run(asyncio.wait_for(whole(), 300))


def test_an_editor_is_answered_by_the_server_which_counts(running):
    async def test(client: Client) -> None:
        status = await client.wait_for_status(lambda status: status["ready"])
        assert status["model"] == "parrot"
        client.open("file:///a.py", BEFORE + AFTER)
        at = find_position(BEFORE)
        [item] = await client.ask("file:///a.py", at)
        assert item.insert_text == MIDDLE
        client.type("file:///a.py", at, "st -")  # a word is accepted
        await client.run(item.command.command, *item.command.arguments)
        status = await client.run("codegemma.status")
        assert (status["why"]["source"], status["failure"]) == ("engine", "")

    drive(running.url, test)
    metrics = running.service.metrics.render().decode()
    assert 'codegemma_completions_total{event="shown",language="python"} 1.0' in metrics
    assert 'codegemma_completions_total{event="accepted",language="python"} 1.0' in metrics
    assert f"codegemma_accepted_characters_total {float(len(MIDDLE))}" in metrics


def test_a_server_that_is_away_is_told_and_found_when_it_comes(tokenizer):
    async def test(client: Client) -> None:
        client.open("file:///a.py", BEFORE + AFTER)
        for _ in range(600):
            status = await client.run("codegemma.status")
            if status["failure"]:
                break
            await asyncio.sleep(0.05)
        assert "is the server up?" in status["failure"]
        assert await client.ask("file:///a.py", find_position(BEFORE)) == []

    drive("http://127.0.0.1:9", test)


def ask(service: RemoteService) -> str:
    async def whole() -> str:
        try:
            pieces = [piece async for piece in service.infill(InfillAsk(BEFORE, AFTER), Caller())]
        finally:
            service.close()
        return "".join(piece.text for piece in pieces)

    return asyncio.run(whole())


def test_a_key_is_sent_and_a_wrong_one_is_told(tokenizer, tmp_path):
    token = add_key(tmp_path / "keys", "laptop")
    with serve(Parrot(tokenizer, SOURCE), keys=read_keys(tmp_path / "keys")) as running:
        assert ask(RemoteService(running.url, token)) == MIDDLE
        with pytest.raises(ServerError, match="401"):
            ask(RemoteService(running.url, "wrong"))


def test_an_asker_that_leaves_cancels_its_request(tokenizer):
    async def leave(url: str) -> None:
        service = RemoteService(url)
        answering = asyncio.ensure_future(anext(service.infill(InfillAsk("start ", ""), Caller())))
        while len(parrot.generations) < 2:  # the first one warmed the engine up
            await asyncio.sleep(0.01)
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering
        while not parrot.cancelled:
            await asyncio.sleep(0.01)
        service.close()

    parrot = Parrot(tokenizer, "start " + "abc " * 400, step_s=0.01)
    with serve(parrot) as running:
        asyncio.run(asyncio.wait_for(leave(running.url), 120))


@pytest.mark.parametrize("address", ["127.0.0.1:8012", "ftp://host", "http://"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InputError, match="no address"):
        RemoteService(address)
