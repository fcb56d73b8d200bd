"""What a GGUF export costs in memory and CPU time, beside the memory that the file's own weights would take.

    python benchmarks/gguf_export.py [--layers 18] [--dtypes bf16 q8_0 q4_0] [--tokenizer tokenizer.json]

The model has the shape of CodeGemma 2B with so many layers and random bfloat16 weights, which are made as they are
asked for. Each export runs in a process of its own. The peer is the plain way: to quantise a whole matrix with the
`gguf` package at once. Printed are the peak of resident memory above an idle process, the size of the file, their
ratio, and CPU time.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np

from codegemma.model import gguf as ours
from codegemma.model.config import GemmaConfig, codegemma_2b
from codegemma.text.tokenizer import Tokenizer

_BLOCK = np.random.default_rng(0).standard_normal(1 << 20).astype(ml_dtypes.bfloat16)


def read_peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def export(config: GemmaConfig, tokenizer: Tokenizer, dtype: str, is_whole: bool, path: Path) -> tuple[int, float]:
    """Return the peak above what the process began with, and the seconds of CPU."""
    shapes = {name: shape for name, _, shape in ours.list_tensors(config)}
    if is_whole:
        ours._CHUNK_WEIGHTS = sys.maxsize
    before, start = read_peak_bytes(), time.process_time()
    ours.write_gguf(path, config, tokenizer, lambda name: [np.resize(_BLOCK, shapes[name])], dtype)
    return read_peak_bytes() - before, time.process_time() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=18)
    parser.add_argument("--dtypes", nargs="+", default=["bf16", "q8_0", "q4_0"], choices=ours.GGUF_DTYPES)
    parser.add_argument("--tokenizer", type=Path, default=Path(ours.__file__).parents[1] / "bases" / "tiny")
    options = parser.parse_args()
    tokenizer = Tokenizer.load(options.tokenizer)
    config = replace(codegemma_2b(), num_layers=options.layers)
    print(f"{config.count_parameters():,} weights; GB are 10^9 bytes")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        for dtype in options.dtypes:
            for name, is_whole in (("by parts", False), ("whole matrices", True)):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    peak, cpu_s = pool.apply(export, (config, tokenizer, dtype, is_whole, path))
                size = path.stat().st_size
                print(
                    f"{dtype:5} {name:14} peak {peak / 1e9:5.2f} GB, file {size / 1e9:5.2f} GB, "
                    f"ratio {peak / size:.2f}, {cpu_s:6.1f} s of CPU",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
