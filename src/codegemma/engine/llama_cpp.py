"""Serves a GGUF file on a CPU: llama.cpp in this process, behind the token-level door that every engine has.

**In**: a GGUF file with its tokenizer in it or beside it, or a model folder, which is quantized once.
**Out**: `LlamaCpp`, a `records.Generator`. Needs the extra `serve`; JAX is never loaded.
**Not**: prompts, sessions or wire protocols; scores: llama.cpp rates what it writes, not what it is given. `lookup_ids`
help no draft here: llama.cpp looks drafts up in the prompt and the answer.
"""

import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from codegemma.engine.checks import check_generation
from codegemma.engine.llama_run import Run
from codegemma.engine.llama_start import LlamaChoices, choose_window, read_ahead, start_server
from codegemma.engine.slots import SlotTable
from codegemma.engine.stream import Stream
from codegemma.errors import InputError
from codegemma.model.gguf_cache import DEFAULT_DTYPE, provide_gguf
from codegemma.model.gguf_header import TOKENIZER_KEY, Value, read_gguf_header, read_gguf_shape
from codegemma.model.infill_modes import read_infill_modes
from codegemma.records import CompletionStream, Generation
from codegemma.text.tokenizer import Tokenizer

_ARCHITECTURES: Final = ("gemma",)
# The file's number for the type of most of its matrices, where the name is of use to a reader.
_WEIGHTS: Final = {0: "f32", 1: "f16", 2: "int4 (Q4_0)", 7: "int8 (Q8_0)", 15: "Q4_K_M", 17: "Q5_K_M", 32: "bf16"}
_DEFAULTS: Final = LlamaChoices()
_JOIN_S: Final = 5.0


class LlamaCpp:
    """A model loaded by llama.cpp."""

    def __init__(
        self,
        file: Path,
        tokenizer: Tokenizer | None = None,
        choices: LlamaChoices = _DEFAULTS,
        *,
        model_name: str | None = None,
        adapters: Mapping[str, Path] | None = None,
    ) -> None:
        """Load the file, and the tokenizer that belongs to it if none is given.

        Raises:
            InputError: no such file, damaged, another architecture, or more memory than there is.
            MissingExtraError: xllamacpp is not installed.
        """
        self._header = read_gguf_header(file)
        self._check_header(file)
        self.max_context_tokens = choose_window(self._header, choices)
        read_ahead(file)
        self.tokenizer = tokenizer or load_tokenizer(file, self._header)
        self.infill_modes = read_infill_modes(file.parent)
        self.model_name = model_name or _name_model(file)
        self.adapters = dict(adapters or {})
        self._choices, self._vocab_size = choices, int(self._header["gemma.vocab_size"])
        self._slots = SlotTable(choices.slots)
        self._runs: dict[Run, threading.Thread] = {}
        self._lock = threading.Lock()
        self._is_closed = False
        self._server: Any = start_server(file, self._header, choices, self._provide_adapters())

    @classmethod
    def load(
        cls,
        place: Path,
        choices: LlamaChoices = _DEFAULTS,
        *,
        dtype: str = DEFAULT_DTYPE,
        cache: Path | None = None,
        on_quantize: Callable[[Path], None] | None = None,
        adapters: Mapping[str, Path] | None = None,
    ) -> "LlamaCpp":
        """Load a GGUF file, or a model folder, which is quantized to `dtype` at the first start (`gguf_cache`).

        Raises:
            InputError: no model there, or it cannot be used.
            OutputError: no room for the quantized file.
            MissingExtraError: a package of the extra `serve` is missing.
        """
        file = provide_gguf(place, dtype, cache, on_quantize)
        return cls(file, None, choices, model_name=_name_model(place), adapters=adapters)

    def generate(self, generation: Generation) -> CompletionStream:
        """Queue a generation and stream it; closing the stream cancels it at the next token or part of the prompt.

        Raises:
            InputError: a field out of its range, an unknown adapter, or this engine is closed.
        """
        check_generation(generation, self._vocab_size, self.max_context_tokens)
        if generation.adapter is not None and generation.adapter not in self.adapters:
            known = ", ".join(self.adapters) or "none"
            raise InputError(f"unknown adapter {generation.adapter!r}; loaded: {known}")
        call = partial(self._complete, generation.adapter)
        run = Run(generation, call, self._slots, self.tokenizer, self.max_context_tokens)
        with self._lock:
            if self._is_closed:
                raise InputError(f"{self.model_name} is closed: it answers no more")
            thread = threading.Thread(target=self._work, args=(run,), name="codegemma-llama", daemon=True)
            self._runs[run] = thread
            thread.start()
        return Stream(run.told, generation.choices, run.cancel)

    def _work(self, run: Run) -> None:
        try:
            run.work()
        finally:
            with self._lock:
                self._runs.pop(run, None)
            self._slots.wake()

    def _complete(
        self, adapter: str | None, body: dict[str, Any], on_event: Callable[[Mapping[str, Any]], bool] | None
    ) -> Any:
        if self.adapters:
            scales = enumerate(float(name == adapter) for name in self.adapters)
            body = body | {"lora": [{"id": number, "scale": scale} for number, scale in scales]}
        server = self._server
        if server is None:
            raise InputError(f"{self.model_name} is closed: it answers no more")
        return server.handle_completions(body) if on_event is None else server.handle_completions(body, on_event)

    def describe(self) -> dict[str, Any]:
        """Tell what is loaded and how it is run."""
        return {
            "model": self.model_name,
            "engine": "llama.cpp",
            "context_tokens": self.max_context_tokens,
            "slots": self._choices.slots,
            "weights": _WEIGHTS.get(int(self._header.get("general.file_type", -1)), "of another type"),
            "batch_tokens": self._choices.batch_tokens,
            "draft_tokens": self._choices.draft_tokens,
            "adapters": list(self.adapters),
            "waiting": self._slots.count_waiting(),
        }

    def close(self) -> None:
        """Cancel what runs, wait for it, and let go of the model."""
        with self._lock:
            self._is_closed = True
            runs = dict(self._runs)
        for run in runs:
            run.cancel()
        for thread in runs.values():
            if thread is not threading.current_thread():
                thread.join(_JOIN_S)
        self._server = None

    def _provide_adapters(self) -> list[Path]:
        if not self.adapters:
            return []
        from codegemma.model.gguf_adapter import provide_gguf_adapter

        shape = read_gguf_shape(self._header)
        return [provide_gguf_adapter(place, shape) for place in self.adapters.values()]

    def _check_header(self, file: Path) -> None:
        found = self._header.get("general.architecture")
        if found not in _ARCHITECTURES:
            raise InputError(f"{file} holds a {found!r}; wanted 'gemma' (Gemma 1 or CodeGemma)")
        if "gemma.vocab_size" not in self._header:
            self._header["gemma.vocab_size"] = self._header.get("tokenizer.ggml.tokens", 0)
        if "gemma.context_length" not in self._header:
            raise InputError(f"{file} lacks gemma.context_length; export the model again")


def load_tokenizer(file: Path, header: Mapping[str, Value]) -> Tokenizer:
    """Load the tokenizer of a GGUF file with this header: the one in it, or the one in its folder.

    Raises:
        InputError: there is none.
    """
    inside = header.get(TOKENIZER_KEY)
    if isinstance(inside, str):
        return Tokenizer.from_json(inside, str(file))
    try:
        return Tokenizer.load(file.parent)
    except InputError as error:
        raise InputError(
            f"{file} holds no tokenizer.json and there is none beside it; put the model's own into {file.parent}"
        ) from error


def _name_model(place: Path) -> str:
    return place.stem if place.suffix == ".gguf" and place.stem != "model" else place.absolute().name
