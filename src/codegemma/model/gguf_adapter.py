"""Writes LoRA adapters for llama.cpp, which adds them to a model that stays as it is.

**In**: an adapter in PEFT's layout, or one in GGUF already; the shape of the base.
**Out**: a GGUF file, kept beside the quantised models and found again by what it was made from.
**Not**: merging (`codegemma convert`), or a check of the base's bytes: a quantised base has others. Shapes are checked.
"""

import os
from pathlib import Path

import gguf
import numpy as np

from codegemma.errors import InputError, OutputError
from codegemma.model.config import GemmaConfig
from codegemma.model.formats.peft import AdapterFile, read_adapter, recognize
from codegemma.model.gguf import ARCHITECTURE
from codegemma.model.gguf_cache import find_cache, name_model

_FILE_NAME = "adapter.gguf"
_TENSORS = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def provide_gguf_adapter(place: Path, config: GemmaConfig, cache: Path | None = None) -> Path:
    """Find an adapter in the form that llama.cpp adds; of PEFT's, make it first.

    Raises:
        InputError: no adapter there, or one of another shape.
        OutputError: no room for it.
    """
    if place.is_file() and place.suffix == ".gguf":
        return place
    if not recognize(place):
        raise InputError(
            f"no such adapter: {place}; wanted a folder that PEFT or codegemma train wrote, or a .gguf file"
        )
    file = (cache or find_cache()) / name_model(place, "adapter") / _FILE_NAME
    if not file.is_file():
        write_gguf_adapter(file, read_adapter(place, config))
    return file


def write_gguf_adapter(file: Path, adapter: AdapterFile) -> None:
    """Write an adapter in float32; the file is there whole or not at all.

    Raises:
        OutputError: no permission or no space.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    writer = gguf.GGUFWriter(None, ARCHITECTURE)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    # llama.cpp divides by the rank, whatever the scale was made of.
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, adapter.scale * adapter.rank)
    for target, (a, b) in adapter.matrices.items():
        for layer in range(len(a)):
            name = f"blk.{layer}.{_TENSORS[target]}.weight"
            writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(a[layer].T, np.float32))
            writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(b[layer].T, np.float32))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        writer.write_header_to_file(temporary)
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        temporary.replace(file)
    except OSError as error:
        raise OutputError(f"{file}: cannot be written ({error.strerror or error}); free space") from error
    finally:
        temporary.unlink(missing_ok=True)
