"""Which runtime serves a 2B on a CPU: llama.cpp beside CTranslate2 and OpenVINO GenAI, on the same dimensions.

    python benchmarks/cpu_runtimes.py [--layers 18] [--prompt 256] [--new 48] [--threads N]
        [--ctranslate2-python /path/to/venv/bin/python] [--openvino-python /path/to/venv/bin/python]

The dimensions are CodeGemma 2B's with so many layers, the weights random, the arithmetic LLaMA's (SiLU for GELU, no
scaled embedding): what all three know, at equal cost. llama.cpp and OpenVINO read one file in Q8_0, CTranslate2 keeps
its own int8. Each runs in a process of its own, one after the other. A peer without an interpreter is left out, which
is said; these are made by `pip install ctranslate2` and `pip install openvino-genai` in environments of their own.
Printed are tokens per second of reading a prompt and of writing, memory after it, the time to load, and the ratios to
llama.cpp.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import quantize

from codegemma.model.config import codegemma_2b

_DRAWN = np.random.default_rng(0).standard_normal(1 << 20).astype(np.float32) * np.float32(0.02)
_Q8 = gguf.GGMLQuantizationType.Q8_0
_PEERS = Path(__file__).parent / "peers"


def write_llama(file: Path, shape: dict[str, int]) -> None:
    """Write random weights as a LLaMA model in Q8_0."""
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(8192)
    writer.add_embedding_length(shape["width"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["mlp_width"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_key_length(shape["head_width"])
    writer.add_value_length(shape["head_width"])
    writer.add_rope_dimension_count(shape["head_width"])
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(shape["vocabulary"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    _write_vocabulary(writer, shape["vocabulary"])
    d, a, f = shape["width"], shape["head_width"], shape["mlp_width"]
    queries, keys = shape["heads"] * a, shape["kv_heads"] * a
    _add(writer, "token_embd.weight", shape["vocabulary"], d)
    for layer in range(shape["layers"]):
        for name, *size in (
            ("attn_norm", d), ("attn_q", queries, d), ("attn_k", keys, d), ("attn_v", keys, d),
            ("attn_output", d, queries), ("ffn_norm", d), ("ffn_gate", f, d), ("ffn_up", f, d), ("ffn_down", d, f),
        ):  # fmt: skip
            _add(writer, f"blk.{layer}.{name}.weight", *size)
    _add(writer, "output_norm.weight", d)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: gguf.GGUFWriter, name: str, *size: int) -> None:
    if len(size) == 1:
        writer.add_tensor(name, np.ones(size, np.float32))
    else:
        writer.add_tensor(
            name,
            np.resize(quantize(np.resize(_DRAWN, (64, size[1])), _Q8), (size[0], size[1] // 32 * 34)),
            raw_dtype=_Q8,
        )


def _write_vocabulary(writer: gguf.GGUFWriter, count: int) -> None:
    """Write pieces that nobody reads: prompts are ids."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    letters = [chr(number) for number in (*range(33, 127), *range(161, 173), *range(174, 256))]
    letters += [chr(number) for number in range(256, 256 + 68)]
    merges = [f"{one} {other}" for one in letters for other in letters][: count - len(letters) - 4]
    pieces = ["<unk>", "<eos>", "<bos>", "<pad>", *letters, *(merge.replace(" ", "") for merge in merges)]
    pieces += [f"<extra{number}>" for number in range(count - len(pieces))]
    writer.add_token_list(pieces)
    writer.add_token_types([3] * 4 + [1] * (len(pieces) - 4))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(3)


def run_llama_cpp(file: str, prompt_tokens: int, new_tokens: int, threads: int) -> dict[str, Any]:
    """Measure llama.cpp in this process."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.verbosity = file, 2048, 1, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.warmup = params.fit_params = False
    params.cache_ram_mib = 0
    started = time.perf_counter()
    server = xllamacpp.Server(params)
    loaded_s = time.perf_counter() - started
    ids = [500 + number % 3000 for number in range(prompt_tokens)]

    def write(count: int) -> float:
        began = time.perf_counter()
        server.handle_completions(
            {"prompt": ids, "n_predict": count, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        )
        return time.perf_counter() - began

    write(1)
    one, all_of_them = write(1), write(new_tokens + 1)
    pages = Path("/proc/self/status").read_text(encoding="ascii")
    resident = next(int(line.split()[1]) for line in pages.splitlines() if line.startswith("VmRSS"))
    return {
        "version": xllamacpp.__version__, "load_s": loaded_s, "file_bytes": Path(file).stat().st_size,
        "prefill": prompt_tokens / one, "decode": new_tokens / (all_of_them - one), "memory_bytes": resident * 1024,
    }  # fmt: skip


def run_peer(python: Path | None, script: str, *arguments: str) -> dict[str, Any] | str:
    """Measure a peer in its own interpreter; say why where that cannot be."""
    if python is None:
        return "left out: no interpreter was named"
    done = subprocess.run(
        [python, _PEERS / script, *arguments], capture_output=True, text=True, check=False, timeout=3600
    )
    if done.returncode:
        return f"failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=18)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--new", type=int, default=48)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--ctranslate2-python", type=Path)
    parser.add_argument("--openvino-python", type=Path)
    options = parser.parse_args()
    config = codegemma_2b()
    shape = {
        "layers": options.layers, "width": config.embed_dim, "heads": config.num_heads, "kv_heads": config.num_kv_heads,
        "head_width": config.head_dim, "mlp_width": config.mlp_dim, "vocabulary": config.vocab_size,
    }  # fmt: skip
    counts = [str(options.prompt), str(options.new), str(options.threads)]
    print(f"{shape}, {options.prompt} tokens read, {options.new} written, {options.threads} threads", flush=True)
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "llama.gguf"
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.apply(write_llama, (file, shape))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            ours = pool.apply(run_llama_cpp, (str(file), options.prompt, options.new, options.threads))
        print_row("llama.cpp", ours, ours)
        print_row("OpenVINO GenAI", run_peer(options.openvino_python, "openvino_decode.py", str(file), *counts), ours)
    found = run_peer(options.ctranslate2_python, "ctranslate2_decode.py", json.dumps(shape), *counts)
    print_row("CTranslate2", found, ours)
    return 0


def print_row(name: str, found: dict[str, Any] | str, ours: dict[str, Any]) -> None:
    if isinstance(found, str):
        print(f"{name:15} {found}", flush=True)
        return
    ratios = {key: found[key] / ours[key] for key in ("prefill", "decode", "memory_bytes", "load_s")}
    print(
        f"{name:15} {found['version']:16} reads {found['prefill']:7.1f} tokens/s (x{ratios['prefill']:.2f}), "
        f"writes {found['decode']:6.2f} (x{ratios['decode']:.2f}), {found['memory_bytes'] / 1e9:5.2f} GB "
        f"(x{ratios['memory_bytes']:.2f}), loads in {found['load_s']:5.1f} s (x{ratios['load_s']:.2f})",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
