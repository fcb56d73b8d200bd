"""Tabby's agent, as its plugins for VS Code, JetBrains, Vim and Eclipse start it."""

import asyncio
import os
from typing import Any

from lsprotocol import types
from tests.clients.conftest import AFTER, MIDDLE, TYPED, find_module
from tests.serve.test_lsp import Client, find_position

_CONFIG = """[server]
endpoint = "{url}"

[anonymousUsageTracking]
disable = true
"""


def test_tabby_agent_completes_and_tells_what_was_shown(running, tmp_path):
    agent = find_module("tabby-agent")
    config = tmp_path / ".tabby-client/agent/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(_CONFIG.format(url=running.url))
    at = AFTER.index(TYPED) + len(TYPED)

    async def ask() -> list[types.CompletionItem]:
        client = Client("test", "1")
        environment = {**os.environ, "HOME": str(tmp_path)}
        await client.start_io("node", str(agent / "dist/cli.js"), "--lsp", "--stdio", env=environment, cwd=tmp_path)
        try:
            completion = types.CompletionClientCapabilities(context_support=True)
            capabilities = types.ClientCapabilities(
                text_document=types.TextDocumentClientCapabilities(completion=completion)
            )
            await client.initialize_async(types.InitializeParams(capabilities, process_id=os.getpid()))
            client.initialized(types.InitializedParams())
            uri = (tmp_path / "a.py").as_uri()
            client.open(uri, AFTER[:at] + AFTER[at + len(MIDDLE) :])
            where = types.CompletionParams(types.TextDocumentIdentifier(uri), find_position(AFTER[:at]))
            for _ in range(60):
                told = await client.text_document_completion_async(where)
                items: Any = getattr(told, "items", told) or []
                if items:
                    return list(items)
                await asyncio.sleep(0.5)
            return []
        finally:
            client.process.kill()
            await client.process.wait()
            await client.stop()

    items = asyncio.run(asyncio.wait_for(ask(), 120))
    assert items, "the agent showed nothing"
    texts = [item.text_edit.new_text if item.text_edit else item.insert_text for item in items]
    assert any(MIDDLE in (text or "") for text in texts), texts
    replies = running.client.get("/metrics").text
    assert 'codegemma_replies_total{route="/v1/completions",status="200"}' in replies
    assert 'codegemma_replies_total{route="/v1/health",status="200"}' in replies
