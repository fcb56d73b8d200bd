"""Starts llama.cpp on a file: its parameters, its locked door, and what stands in its way in one clear line.

**In**: a GGUF file with its header, and choices.
**Out**: llama.cpp's server object.
**Not**: requests.

llama.cpp opens a port of its own, whatever it is asked. It is bound to the loopback address and answers nobody without
a random key, which nobody keeps; only `/health` tells that something lives there.
"""

import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from codegemma.errors import InputError, MissingExtraError
from codegemma.model.gguf_header import Value
from codegemma.text.control_tokens import BOS_ID

_KEY_BYTES: Final = 32
_GB: Final = 10**9
# Of the machine's free memory, for what llama.cpp computes in.
_COMPUTE_BYTES: Final = _GB // 4


@dataclass(frozen=True, slots=True)
class LlamaChoices:
    """How a model is run.

    `slots` prompts are kept and answers written at once, each with a window of its own; the last slot is chat's.
    `context_tokens` is the window, at most the model's own. `threads` `None` takes every core. A prompt is read in
    parts of `batch_tokens`, after each of which it can be cancelled. A draft is looked up by its `draft_match_tokens`
    last tokens and has up to `draft_tokens`; 0 turns drafts off. `repacks` lays integers out anew at the start, for
    quicker arithmetic and a slower start. `is_exact` keeps keys and values in 32 bits and computes attention plainly,
    to be compared with others.
    """

    slots: int = 4
    context_tokens: int | None = None
    threads: int | None = None
    batch_tokens: int = 32
    draft_tokens: int = 8
    draft_match_tokens: int = 6
    repacks: bool = True
    is_exact: bool = False


def start_server(file: Path, header: Mapping[str, Value], choices: LlamaChoices, adapters: Sequence[Path] = ()) -> Any:
    """Load a file.

    Raises:
        InputError: it is damaged, or needs more memory than there is.
        MissingExtraError: xllamacpp is not installed.
    """
    try:
        import xllamacpp
    except ImportError as error:
        raise MissingExtraError("GGUF files are served by xllamacpp; install codegemma[serve]") from error
    window = choose_window(header, choices)
    _check_memory(file, header, window * choices.slots, choices)
    params = _spell_params(xllamacpp, file, window, choices)
    for adapter in adapters:
        if not adapter.is_file():
            raise InputError(f"no such adapter: {adapter}; wanted a LoRA adapter in GGUF")
        params.lora_adapters = [*params.lora_adapters, xllamacpp.CommonAdapterLoraInfo(str(adapter), 0.0)]
    try:
        server = xllamacpp.Server(params)
        # Its loop runs in a thread of its own: a server that is let go before that begins never ends.
        server.handle_completions(
            {"prompt": [BOS_ID], "n_predict": 0, "stream": True, "return_progress": True}, lambda _: True
        )
        return server
    except (RuntimeError, ValueError, MemoryError, OSError) as error:
        raise InputError(
            f"llama.cpp could not load {file} ({error}); it is damaged, of a type that this version does not know, "
            "or larger than the memory; copy it again, or take int4 or fewer slots"
        ) from error


def read_ahead(file: Path) -> None:
    """Have the system read a file into its memory beside whatever is done meanwhile."""
    threading.Thread(target=_will_need, args=(file,), name="codegemma-read-ahead", daemon=True).start()


def _will_need(file: Path) -> None:
    if hasattr(os, "posix_fadvise"):  # neither Windows nor macOS has it
        with suppress(OSError), file.open("rb") as content:
            os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def choose_window(header: Mapping[str, Value], choices: LlamaChoices) -> int:
    """Choose the window: what was asked for, but no more than the model was trained for."""
    trained = int(header["gemma.context_length"])
    if choices.context_tokens is not None and choices.context_tokens < 1:
        raise InputError(f"context_tokens {choices.context_tokens} is out of range: 1 to {trained}")
    return min(choices.context_tokens or trained, trained)


def _spell_params(xllamacpp: Any, file: Path, window: int, choices: LlamaChoices) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_ctx, params.n_parallel = window * choices.slots, choices.slots
    params.n_batch = params.n_ubatch = choices.batch_tokens
    threads = choices.threads or os.cpu_count() or 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    if choices.is_exact:
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.warmup = params.fit_params = False
    params.no_extra_bufts = not choices.repacks
    params.cache_ram_mib = 0  # what slots hold is all that is kept: memory stays flat
    params.verbosity = -1
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.api_keys = [secrets.token_urlsafe(_KEY_BYTES)]
    params.cors_origins, params.cors_origins_explicit = "", True
    params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = params.ui = False
    params.n_threads_http = 1
    if choices.draft_tokens:
        speculative = params.speculative
        speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]
        speculative.ngram_simple.size_n = choices.draft_match_tokens
        speculative.ngram_simple.size_m = choices.draft_tokens
        speculative.ngram_simple.min_hits = 1
    return params


def _check_memory(file: Path, header: Mapping[str, Value], cached_tokens: int, choices: LlamaChoices) -> None:
    """Refuse what would end the process, or the machine, for want of memory."""
    free_bytes = find_free_memory()
    if free_bytes is None:
        return
    cache_bytes = count_cache_bytes(header, cached_tokens, choices)
    wanted_bytes = file.stat().st_size + cache_bytes + _COMPUTE_BYTES
    if wanted_bytes > free_bytes:
        raise InputError(
            f"{file} needs {wanted_bytes / _GB:.1f} GB of memory, {cache_bytes / _GB:.1f} GB of it for {choices.slots} "
            f"slots; {free_bytes / _GB:.1f} GB are free: take int4, fewer slots or a shorter context"
        )


def count_cache_bytes(header: Mapping[str, Value], tokens: int, choices: LlamaChoices) -> int:
    """Count what keys and values of so many tokens take."""
    heads = int(header.get("gemma.attention.head_count_kv", 1))
    width = int(header.get("gemma.attention.key_length", 256)) + int(header.get("gemma.attention.value_length", 256))
    return tokens * int(header.get("gemma.block_count", 0)) * heads * width * (4 if choices.is_exact else 2)


def find_free_memory() -> int | None:
    """Find how many bytes can be had without swapping; `None` where the system does not tell."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
    except (OSError, ValueError):
        pass
    return None
