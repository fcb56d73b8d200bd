"""llama.cpp's own server, in this process: the independent reference for GGUF files."""

import json
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xllamacpp

# Room for whole infill prompts: the server lets in other files only beyond its batch.
_CONTEXT_TOKENS, _BATCH_TOKENS = 2048, 512


class LlamaCpp:
    """A server that answers from one GGUF file."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def ask(self, route: str, **body: object) -> Any:
        request = urllib.request.Request(  # noqa: S310 (its own address)
            self._server.listening_address + route, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
            return json.load(answer)

    def encode(self, text: str, *, parse_special: bool = False, add_special: bool = False) -> list[int]:
        ids: list[int] = self.ask("/tokenize", content=text, parse_special=parse_special, add_special=add_special)[
            "tokens"
        ]
        return ids

    def rate_next(self, ids: list[int], vocab_size: int) -> np.ndarray:
        """Natural log-probabilities of every token as the next one; minus infinity where it gives none."""
        answer = self.ask("/completion", prompt=ids, n_predict=1, n_probs=vocab_size, temperature=0, cache_prompt=False)
        logprobs = np.full(vocab_size, -np.inf)
        for entry in answer["completion_probabilities"][0]["top_logprobs"]:
            logprobs[entry["id"]] = entry["logprob"]
        return logprobs

    def generate(self, ids: list[int], count: int, **options: object) -> Any:
        """Choose the most probable token `count` times, unless an end comes first."""
        return self.ask("/completion", prompt=ids, n_predict=count, temperature=0, return_tokens=True, **options)


@contextmanager
def serve(path: Path, context_tokens: int = _CONTEXT_TOKENS) -> Iterator[LlamaCpp]:
    """Start the server on a free port; everything it keeps is float32."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_batch, params.n_ubatch = context_tokens, _BATCH_TOKENS, _BATCH_TOKENS
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = params.fit_params = False
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    with run(params) as server:
        yield server


@contextmanager
def run(params: Any) -> Iterator[LlamaCpp]:
    """Start a server of these `xllamacpp.CommonParams` on a free port."""
    params.verbosity = -1
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        params.port = free.getsockname()[1]
    server = xllamacpp.Server(params)
    try:
        yield LlamaCpp(server)
    finally:
        del server
