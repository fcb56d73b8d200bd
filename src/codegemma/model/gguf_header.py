"""Reads what a GGUF file says of itself, quickly: no tensor is touched, no list is kept.

**In**: a `.gguf` file of any model.
**Out**: its numbers, flags and strings by key; of lists the length.
**Not**: tensors (`gguf_reader.py`). Needs nothing but Python: 256,000 pieces are passed over in a tenth of a second.
"""

import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig

FILE_NAME: Final = "model.gguf"
# What the command line calls a type of weights -> what GGUF does.
KINDS: Final = {"bf16": "bf16", "f16": "f16", "f32": "f32", "int8": "q8_0", "int4": "q4_0"}
# The key that GGUF's specification has for a `tokenizer.json`.
TOKENIZER_KEY: Final = "tokenizer.huggingface.json"

Value = int | float | bool | str

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
# The format's numbers of types: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING: Final = 8
_LIST: Final = 9


def read_gguf_header(path: Path) -> dict[str, Value]:
    """Read the metadata of a file; a list is told by its length.

    Raises:
        InputError: no such file, cut off, or no GGUF.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Header(data).read()
    except FileNotFoundError as error:
        raise InputError(f"no such file: {path}; wanted a GGUF file or a model folder") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    # An empty file cannot be mapped; what is cut off ends a number or a name early.
    except (ValueError, struct.error, IndexError, KeyError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} is no whole GGUF file ({error}); copy it again") from error


def read_gguf_shape(header: Mapping[str, Value]) -> GemmaConfig:
    """Read a Gemma model's shape from its header.

    Raises:
        InputError: something of it is missing.
    """
    try:
        return GemmaConfig(
            vocab_size=int(header.get("gemma.vocab_size", header["tokenizer.ggml.tokens"])),
            embed_dim=int(header["gemma.embedding_length"]),
            num_layers=int(header["gemma.block_count"]),
            num_heads=int(header["gemma.attention.head_count"]),
            num_kv_heads=int(header["gemma.attention.head_count_kv"]),
            head_dim=int(header["gemma.attention.key_length"]),
            mlp_dim=int(header["gemma.feed_forward_length"]),
            max_positions=int(header["gemma.context_length"]),
        )
    except KeyError as error:
        raise InputError(f"the GGUF file lacks the metadata {error}; export the model again") from error


class _Header:
    """A reader's place in the file."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 0

    def read(self) -> dict[str, Value]:
        if self._data[:4] != _MAGIC:
            raise ValueError(f"it begins with {self._data[:4]!r}")
        self._at = 4
        version = self._number("I")
        if version not in _VERSIONS:
            raise ValueError(f"its version is {version}, known are 2 and 3")
        self._number("Q")  # tensors
        return {self._string(): self._value(self._number("I")) for _ in range(self._number("Q"))}

    def _number(self, kind: str) -> int:
        return int(self._scalar(kind))

    def _scalar(self, kind: str) -> Value:
        value: Value = struct.unpack_from("<" + kind, self._data, self._at)[0]
        self._at += struct.calcsize("<" + kind)
        return value

    def _string(self) -> str:
        return self._take(self._number("Q")).decode("utf-8", errors="replace")

    def _take(self, length: int) -> bytes:
        start = self._at
        self._at += length
        if self._at > len(self._data):
            raise ValueError("it is cut off")
        return self._data[start : self._at]

    def _value(self, kind: int) -> Value:
        if kind == _STRING:
            return self._string()
        if kind == _LIST:
            return self._skip_list()
        return self._scalar(_SCALARS[kind])

    def _skip_list(self) -> int:
        kind, count = self._number("I"), self._number("Q")
        if kind == _STRING:
            unpack, data, at, size = struct.Struct("<Q").unpack_from, self._data, self._at, len(self._data)
            for _ in range(count):
                at += 8 + unpack(data, at)[0]
                if at > size:
                    raise ValueError("it is cut off")
            self._at = at
        elif kind == _LIST:
            for _ in range(count):
                self._skip_list()
        else:
            self._take_over(count * struct.calcsize("<" + _SCALARS[kind]))
        return count

    def _take_over(self, length: int) -> None:
        self._at += length
        if self._at > len(self._data):
            raise ValueError("it is cut off")
