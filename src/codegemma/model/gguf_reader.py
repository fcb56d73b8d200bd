"""Reads a GGUF file of a Gemma 1 model that keeps floats, one that we wrote or one of llama.cpp's converter.

**In**: the file.
**Out**: shape, tokenizer and notes, and each tensor under its Hugging Face name as it is asked for.
**Not**: quantised weights: what they were made from is gone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.formats.parts import refuse_extra
from codegemma.model.gguf import (
    ARCHITECTURE,
    FLOAT_KINDS,
    NORMS_KEY,
    NOTE_PREFIXES,
    list_norms,
    list_tensors,
)
from codegemma.model.gguf_header import TOKENIZER_KEY
from codegemma.text.tokenizer import Tokenizer

# The output table, which is the embedding.
_PASSED_OVER = {"output.weight"}


@dataclass(frozen=True)
class GgufModel:
    """A GGUF file that was opened: what it says, and `read` for its tensors under their Hugging Face names.

    `tokenizer` is `None` where another program wrote the file and left `tokenizer.json` out.
    """

    config: GemmaConfig
    tokenizer: Tokenizer | None
    notes: dict[str, str]
    read: Callable[[str], np.ndarray]


def read_gguf(path: Path) -> GgufModel:
    """Open a GGUF file of a Gemma 1 model; tensors are read from it as they are asked for, in the type they have.

    Raises:
        InputError: no such file, cut off or no GGUF, another architecture, a tensor missing or of another shape, or
            quantised weights.
    """
    reader = _open(path)
    try:
        fields = {key: field.contents() for key, field in reader.fields.items() if len(field.types) == 1}
        norms = reader.fields[NORMS_KEY].contents() if NORMS_KEY in reader.fields else None
    except (ValueError, IndexError, RecursionError) as error:
        raise _cut_off(path, error) from error
    stored = {tensor.name: tensor for tensor in reader.tensors}
    config = _read_shape(fields, stored, path)
    tensors = _locate_tensors(stored, config, path)
    kept = _divide_norms(config, norms)

    def read(name: str) -> np.ndarray:
        tensor = tensors[name]
        data = np.asarray(tensor.data).view(FLOAT_KINDS[tensor.tensor_type])
        return data if data.ndim > 1 else _take_one_off(data, kept.get(name))

    json_text = fields.get(TOKENIZER_KEY)
    tokenizer = Tokenizer.from_json(json_text, str(path)) if isinstance(json_text, str) else None
    notes = {k: v for k, v in fields.items() if k.startswith(NOTE_PREFIXES) and isinstance(v, str)}
    notes.pop("general.architecture", None)
    return GgufModel(config, tokenizer, notes, read)


def _take_one_off(stored: np.ndarray, kept: np.ndarray | None) -> np.ndarray:
    """Return the norm that was written; what was kept aside counts only while it explains what is stored."""
    if kept is not None and np.array_equal(kept + np.float32(1), stored):
        return kept
    difference: np.ndarray = stored.astype(np.float32) - np.float32(1)
    return difference


def _locate_tensors(stored: Mapping[str, Any], config: GemmaConfig, path: Path) -> dict[str, Any]:
    for _, theirs, shape in list_tensors(config):
        if theirs not in stored:
            raise InputError(f"{path} lacks the tensor {theirs}; wanted {list(shape)}; export the model again")
        found = tuple(int(size) for size in reversed(stored[theirs].shape))
        if found != shape:
            raise InputError(f"{path}: {theirs} is {list(found)}; its metadata asks for {list(shape)}")
        if stored[theirs].tensor_type not in FLOAT_KINDS:
            raise InputError(
                f"{path}: {theirs} is quantised ({stored[theirs].tensor_type.name}); "
                "take the file in f32, f16 or bf16 that it was made from"
            )
    refuse_extra(stored.keys() - {theirs for _, theirs, _ in list_tensors(config)} - _PASSED_OVER, str(path))
    return {name: stored[theirs] for name, theirs, _ in list_tensors(config)}


def _read_shape(fields: Mapping[str, Any], stored: Mapping[str, Any], path: Path) -> GemmaConfig:
    found = fields.get("general.architecture")
    if found != ARCHITECTURE:
        raise InputError(f"{path} holds a {found!r}; wanted {ARCHITECTURE!r} (Gemma 1 or CodeGemma)")
    try:
        embedding = stored["token_embd.weight"]
        return GemmaConfig(
            vocab_size=int(embedding.shape[1]),
            embed_dim=int(fields["gemma.embedding_length"]),
            num_layers=int(fields["gemma.block_count"]),
            num_heads=int(fields["gemma.attention.head_count"]),
            num_kv_heads=int(fields["gemma.attention.head_count_kv"]),
            head_dim=int(fields["gemma.attention.key_length"]),
            mlp_dim=int(fields["gemma.feed_forward_length"]),
            max_positions=int(fields["gemma.context_length"]),
            # float32 on disk: the shortest decimal gives back what was written (1e-6, not 9.99999997e-07).
            rope_theta=float(str(np.float32(fields.get("gemma.rope.freq_base", 10000.0)))),
            norm_epsilon=float(str(np.float32(fields["gemma.attention.layer_norm_rms_epsilon"]))),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{path} lacks the metadata {error}; export the model again") from error


def _divide_norms(config: GemmaConfig, norms: Any) -> dict[str, np.ndarray]:
    names = list_norms(config)
    if not isinstance(norms, list) or len(norms) != len(names) * config.embed_dim:
        return {}
    rows = np.asarray(norms, dtype=np.float32).reshape(len(names), config.embed_dim)
    return dict(zip(names, rows, strict=True))


class _WholeReader(gguf.GGUFReader):
    """The library's reader, which would read on past the end of a file that is cut off."""

    def _get(self, offset: Any, dtype: Any, count: Any = 1, override_order: Any = None) -> Any:
        part = super()._get(offset, dtype, count, override_order)
        if part.size != int(count):
            raise ValueError(f"it ends before byte {offset}")
        return part


def _open(path: Path) -> gguf.GGUFReader:
    if not path.is_file():
        raise InputError(f"{path}: no such GGUF file")
    try:
        return _WholeReader(path)
    except (OSError, ValueError, KeyError, IndexError, OverflowError, MemoryError, RecursionError) as error:
        raise _cut_off(path, error) from error


def _cut_off(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is cut off or no GGUF file ({error}); copy it again, or export the model again")
