"""Writes a Gemma 1 model as one GGUF file, as llama.cpp loads it.

**In**: tensors by their Hugging Face names, some rows at a time, with the model's shape and tokenizer.
**Out**: the file, whole or not at all.
**Not**: reading (`gguf_reader.py`), and not K-quants: llama.cpp's own `llama-quantize OURS-bf16.gguf OUT.gguf Q4_K_M`
makes them from ours. Needs the extra `formats`.

GGUF stores norms plus one, matrices as Hugging Face does (outputs first), and no output table: it is the embedding.
"""

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
from gguf.quants import quantize

from codegemma.errors import InputError, OutputError
from codegemma.model.config import GemmaConfig
from codegemma.model.gguf_vocabulary import write_vocabulary
from codegemma.text.tokenizer import Tokenizer

GGUF_DTYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")
ReadRows = Callable[[str], Iterable[np.ndarray]]

ARCHITECTURE = "gemma"
_KINDS = {name: gguf.GGMLQuantizationType[name.upper()] for name in GGUF_DTYPES}
FLOAT_KINDS = {
    gguf.GGMLQuantizationType.F32: np.dtype(np.float32),
    gguf.GGMLQuantizationType.F16: np.dtype(np.float16),
    gguf.GGMLQuantizationType.BF16: np.dtype(ml_dtypes.bfloat16),
}
_FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}
# Ours of norms where adding one rounded: without them a model would not come back bit for bit. llama.cpp ignores them.
NORMS_KEY = "codegemma.norm_weights"
NOTE_PREFIXES = ("general.", "codegemma.")
_EMBEDDING = "model.embed_tokens.weight"
# Hugging Face -> GGUF below `model.layers.<n>.` and `blk.<n>.`, and outside the layers.
_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
# Weights that are converted at a time: the working memory is some hundred megabytes, however large the tensor is.
_CHUNK_WEIGHTS = 1 << 24


def write_gguf(
    path: Path,
    config: GemmaConfig,
    tokenizer: Tokenizer,
    read: ReadRows,
    dtype: str = "bf16",
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write a model as one file; a file of that name is replaced.

    Args:
        path: the file to write.
        config: the model's shape.
        tokenizer: the model's own.
        read: gives a tensor by its Hugging Face name (`model.layers.0.self_attn.q_proj.weight`) in blocks of rows,
            outputs first, in float32, float16 or bfloat16. It is asked for one at a time, in the order of the file.
        dtype: how matrices are kept; norms are float32. With `q4_0` the embedding, which is the output too, has 8
            bits; a matrix whose rows are no multiple of 32 stays float16 where the others are quantised.
        notes: more metadata, such as `general.license` or `codegemma.lineage`.

    Raises:
        InputError: unknown dtype; a tensor of another shape or with numbers that the format cannot hold; or a
            tokenizer that llama.cpp would take otherwise.
        OutputError: no permission or no space.
    """
    if dtype not in _KINDS:
        raise InputError(
            f"no GGUF in {dtype!r}; known are {', '.join(GGUF_DTYPES)}; for K-quants write bf16 and run llama-quantize"
        )
    writer = gguf.GGUFWriter(None, ARCHITECTURE)
    _write_shape(writer, config, dtype)
    write_vocabulary(writer, tokenizer, config.vocab_size)
    _write_notes(writer, notes or {})
    _write_norms(writer, config, read)
    kinds = {name: _choose_kind(name, shape, dtype) for name, _, shape in list_tensors(config)}
    for name, theirs, shape in list_tensors(config):
        size_bytes = math.prod(gguf.quant_shape_to_byte_shape(shape, kinds[name]))
        writer.add_tensor_info(theirs, shape, np.dtype(np.float32), size_bytes, raw_dtype=kinds[name])
    tensors = (_encode(_read_checked(read, name, shape), kinds[name], name) for name, _, shape in list_tensors(config))
    _write_file(writer, path, tensors)


def list_tensors(config: GemmaConfig) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name every tensor, theirs first: Hugging Face, GGUF, shape."""
    d, f = config.embed_dim, config.mlp_dim
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    shapes = {
        "attn_q": (queries, d),
        "attn_k": (keys, d),
        "attn_v": (keys, d),
        "attn_output": (d, queries),
        "ffn_gate": (f, d),
        "ffn_up": (f, d),
        "ffn_down": (d, f),
    }
    yield _EMBEDDING, "token_embd.weight", (config.vocab_size, d)
    for layer in range(config.num_layers):
        for name, theirs in _LAYER_NAMES.items():
            yield f"model.layers.{layer}.{name}.weight", f"blk.{layer}.{theirs}.weight", shapes.get(theirs, (d,))
    yield "model.norm.weight", "output_norm.weight", (d,)


def list_norms(config: GemmaConfig) -> list[str]:
    """Name the norms in the order of the file."""
    return [name for name, _, shape in list_tensors(config) if len(shape) == 1]


def _write_shape(writer: gguf.GGUFWriter, config: GemmaConfig, dtype: str) -> None:
    writer.add_file_type(_FILE_TYPES[dtype])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(config.max_positions)
    writer.add_embedding_length(config.embed_dim)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.mlp_dim)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_vocab_size(config.vocab_size)


def _write_notes(writer: gguf.GGUFWriter, notes: Mapping[str, str]) -> None:
    for key, value in notes.items():
        if not key.startswith(NOTE_PREFIXES):
            raise InputError(f"a note {key!r}; a note's key begins with {' or '.join(NOTE_PREFIXES)}")
        writer.add_string(key, value)


def _write_norms(writer: gguf.GGUFWriter, config: GemmaConfig, read: ReadRows) -> None:
    shape = (config.embed_dim,)
    norms = np.concatenate(
        [block.astype(np.float32) for name in list_norms(config) for block in _read_checked(read, name, shape)]
    )
    if not np.array_equal(norms + np.float32(1) - np.float32(1), norms):
        writer.add_array(NORMS_KEY, norms.tolist())


def _choose_kind(name: str, shape: tuple[int, ...], dtype: str) -> gguf.GGMLQuantizationType:
    if len(shape) == 1:
        return gguf.GGMLQuantizationType.F32
    if dtype in {"q8_0", "q4_0"} and shape[-1] % gguf.GGML_QUANT_SIZES[_KINDS[dtype]][0]:
        return gguf.GGMLQuantizationType.F16
    if dtype == "q4_0" and name == _EMBEDDING:
        return gguf.GGMLQuantizationType.Q8_0
    return _KINDS[dtype]


def _read_checked(read: ReadRows, name: str, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    rows = 0
    for block in read(name):
        rows += len(block)
        if block.shape[1:] != shape[1:] or rows > shape[0]:
            raise InputError(f"{name} is {[rows, *block.shape[1:]]}; the shape of the model asks for {list(shape)}")
        yield block
    if rows < shape[0]:
        raise InputError(f"{name} is {[rows, *shape[1:]]}; the shape of the model asks for {list(shape)}")


def _encode(blocks: Iterable[np.ndarray], kind: gguf.GGMLQuantizationType, name: str) -> Iterator[np.ndarray]:
    """Convert a tensor, some rows at a time."""
    for block in blocks:
        if block.ndim == 1:
            yield block.astype(np.float32) + np.float32(1)
        elif FLOAT_KINDS.get(kind) == block.dtype:
            yield block
        else:
            step = max(1, _CHUNK_WEIGHTS // block.shape[1])
            for start in range(0, len(block), step):
                yield _round(block[start : start + step].astype(np.float32), kind, name)


def _round(rows: np.ndarray, kind: gguf.GGMLQuantizationType, name: str) -> np.ndarray:
    is_finite = np.isfinite(rows)
    with np.errstate(over="ignore", invalid="ignore"):
        part: np.ndarray = rows.astype(FLOAT_KINDS[kind]) if kind in FLOAT_KINDS else quantize(rows, kind)
    if not (np.isfinite(part) == is_finite if kind in FLOAT_KINDS else is_finite).all():
        raise InputError(f"{name} holds numbers that {kind.name} cannot; write bf16, or look how it was trained")
    return part


def _write_file(writer: gguf.GGUFWriter, path: Path, tensors: Iterable[Iterable[np.ndarray]]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer.write_header_to_file(temporary)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        [file] = writer.fout or []
        for tensor in tensors:
            # The library's own `write_tensor_data` wants a tensor whole.
            writer.write_padding(file, file.tell())
            for block in tensor:
                file.write(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
        writer.write_padding(file, file.tell())
        file.flush()
        os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{path}: cannot be written ({reason}); free space or name another") from error
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            temporary.unlink()
