"""Answers with a model in JAX, on a GPU, a TPU or a CPU: many streams at once, and ratings.

**In**: a model folder, or parameters with their shape and tokenizer; `Generation`s, or ids to rate.
**Out**: `Engine`, a `records.Generator` and `Scorer`.
**Not**: requests of text (`completer.py`), and several devices: the pages lie on one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from codegemma.engine.batcher import Batcher
from codegemma.engine.checks import check_generation
from codegemma.engine.device import Device
from codegemma.engine.rate import rate_items
from codegemma.engine.shapes import choose_shapes
from codegemma.engine.stream import Stream
from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.execution import Execution
from codegemma.model.formats.peft import AdapterFile, check_base, read_adapter
from codegemma.model.formats.table import open_weights
from codegemma.model.gemma import Params
from codegemma.model.infill_modes import OFFICIAL_MODES, read_infill_modes
from codegemma.model.lora import stack_adapters
from codegemma.model.quantize import load_quantized
from codegemma.model.weights import describe_model, load_model, locate_tokenizer
from codegemma.records import Generation, InfillMode, Score
from codegemma.text.tokenizer import Tokenizer

PAGE_TOKENS = 16
# Sequences that write at once. The pages hold twice what these could, so that what was read is found again.
DEFAULT_ROWS = 32
_PAGES_PER_ROW_WINDOW = 2
# But never more memory than this: of a CPU in bytes, of an accelerator as a share of what the weights leave.
_CPU_CACHE_BYTES = 2**28
_ACCELERATOR_CACHE_SHARE = 0.6


class Engine:
    """A loaded model that writes and rates."""

    def __init__(  # noqa: PLR0913
        self,
        params: Params,
        config: GemmaConfig,
        tokenizer: Tokenizer,
        infill_modes: tuple[InfillMode, ...] = OFFICIAL_MODES,
        *,
        model_name: str = "model",
        rows: int = DEFAULT_ROWS,
        cache_tokens: int | None = None,
        execution: Execution | None = None,
        adapters: Mapping[str, AdapterFile] | None = None,
    ) -> None:
        """Hold the parameters; nothing is compiled or allocated before the first request, unless `warm` is called.

        `infill_modes` are the orders of the parts that the model knows, the one that suits it best first. `rows`
        sequences write at once, and `cache_tokens` are kept read [default: by the device's memory]. A generation may
        name one of the `adapters`, which all hang on the one model.
        """
        if tokenizer.vocab_size > config.vocab_size:
            raise InputError(
                f"the tokenizer has {tokenizer.vocab_size} ids, the model {config.vocab_size}: "
                "take the tokenizer.json that came with the model"
            )
        self.params = params
        self.config = config
        self.tokenizer = tokenizer
        self.infill_modes = infill_modes
        self.max_context_tokens = config.max_positions
        self.model_name = model_name
        self._execution = execution or choose_execution()
        is_accelerator = jax.default_backend() != "cpu"
        shapes = choose_shapes(config.max_positions, rows, PAGE_TOKENS, is_accelerator=is_accelerator)
        # One page more than a window: a page that is copied is there twice.
        window_pages = shapes.reaches[-1] // PAGE_TOKENS + 1
        wanted = self._choose_cache_tokens(rows) if cache_tokens is None else cache_tokens
        pages = max(window_pages, wanted // PAGE_TOKENS)
        self.adapters = tuple(adapters or ())
        stacked = stack_adapters(config, list(adapters.values())) if adapters else None
        self._device = Device(
            params, config, self._execution, shapes, pages=pages, page_tokens=PAGE_TOKENS, adapters=stacked
        )
        self._batcher = Batcher(self._device, tokenizer, self.max_context_tokens)
        self._is_closed = False

    @classmethod
    def load(cls, folder: Path, rows: int = DEFAULT_ROWS, adapters: Mapping[str, Path] | None = None) -> "Engine":
        """Load a model folder with its tokenizer, and the folders of adapters that were trained on it.

        Raises:
            InputError: a file is missing, cut off or of another model.
        """
        config = describe_model(folder)
        opened = {name: _open_adapter(place, folder, config) for name, place in (adapters or {}).items()}
        tokenizer = Tokenizer.load(locate_tokenizer(folder))  # before the weights: a missing one is told at once
        dtype: Literal["bf16"] | None = None if jax.default_backend() == "cpu" else "bf16"
        params, config = load_quantized(folder) or load_model(folder, dtype)
        modes, name = read_infill_modes(folder), folder.resolve().name
        return cls(params, config, tokenizer, modes, model_name=name, rows=rows, adapters=opened)

    def generate(self, generation: Generation) -> Stream:
        """Queue a generation and stream its choices; closing the stream cancels within one step or block of steps.

        Raises:
            InputError: a field out of its range, an id outside the vocabulary, or a prompt longer than the window.
        """
        if self._is_closed:
            raise InputError("the engine is closed: load the model again")
        check_generation(generation, self.config.vocab_size, self.max_context_tokens)
        if generation.adapter is not None and generation.adapter not in self.adapters:
            known = ", ".join(self.adapters) or "none"
            raise InputError(f"there is no adapter {generation.adapter!r}; there are: {known}")
        space = 0 if generation.adapter is None else 1 + self.adapters.index(generation.adapter)
        return self._batcher.submit(generation, space)

    def score(self, items: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Score]:
        """Rate each continuation after its prompt, teacher-forced: one pass, no generation.

        Raises:
            InputError: an id outside the vocabulary, an empty prompt, or more tokens than the window holds.
        """
        for prompt, continuation in items:
            self._check_ids(np.asarray([*prompt, *continuation], np.int32))
            if not prompt:
                raise InputError("a prompt to score after is empty: it holds at least <bos>")
        return rate_items(self.params, self.config, items)

    def describe(self) -> dict[str, Any]:
        """Tell what is loaded, on what, and how much it has to do."""
        leaves = jax.tree.leaves(self.params)
        return {
            "model": self.model_name,
            "engine": "jax",
            "device": jax.default_backend(),
            "context_tokens": self.max_context_tokens,
            "adapters": list(self.adapters),
            "slots": self._device.shapes.rows[-1],
            "cache_tokens": self._device.pages * PAGE_TOKENS,
            "weights": str(max((leaf.nbytes, str(leaf.dtype)) for leaf in leaves)[1]),
            "weights_bytes": sum(leaf.nbytes for leaf in leaves),
            **self._batcher.count_work(),
        }

    def warm(self) -> int:
        """Compile what editors' requests need, before the first one comes; tell how many sizes. The rest follows."""
        return self._device.warm()

    def close(self) -> None:
        """Cancel what runs and let go of the pages."""
        self._is_closed = True
        self._batcher.close()
        self._device.close()

    def _choose_cache_tokens(self, rows: int) -> int:
        config = self.config
        itemsize = jnp.dtype(self._execution.activation_dtype).itemsize
        token_bytes: int = 2 * config.num_layers * config.num_kv_heads * config.head_dim * itemsize
        return min(_PAGES_PER_ROW_WINDOW * rows * config.max_positions, _measure_room() // token_bytes)

    def _check_ids(self, ids: np.ndarray) -> None:
        if len(ids) > self.max_context_tokens:
            raise InputError(f"{len(ids)} tokens do not fit: the model's window is {self.max_context_tokens} tokens")
        wrong = ids[(ids < 0) | (ids >= self.config.vocab_size)]
        if len(wrong):
            raise InputError(f"token id {wrong[0]} is outside the vocabulary: 0 to {self.config.vocab_size - 1}")


def _open_adapter(place: Path, base: Path, config: GemmaConfig) -> AdapterFile:
    adapter = read_adapter(place, config)
    check_base(place, adapter, open_weights(base))
    return adapter


def choose_execution() -> Execution:
    """Choose the number formats of the default device: bfloat16 on accelerators, which a CPU computes slowly."""
    if jax.default_backend() == "cpu":
        return Execution(unroll=False)
    return Execution(compute_dtype=jnp.bfloat16, activation_dtype=jnp.bfloat16, unroll=True)


def _measure_room() -> int:
    if jax.default_backend() == "cpu":
        return _CPU_CACHE_BYTES
    memory = jax.devices()[0].memory_stats() or {}
    left = memory.get("bytes_limit", 2**34) - memory.get("bytes_in_use", 0)
    return int(_ACCELERATOR_CACHE_SHARE * left)
