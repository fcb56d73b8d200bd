"""Converts a model of drawn weights from format to format and back, and tells bits, memory and time of each step.

    python tools/convert_round.py                     # CodeGemma 2B: 2,506,172,416 parameters, 5 GB a copy in bf16
    python tools/convert_round.py --model 7b --layers 1

Every step runs in a process of its own, whose anonymous memory is watched. The last step loads the model as float32,
as training on a CPU does. `make convert-2b` writes what this prints into docs/convert-2b.md.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from codegemma.model.config import GemmaConfig, codegemma_2b, codegemma_7b
from codegemma.model.formats import huggingface
from codegemma.model.formats.parts import DTYPES, Part, Weights, shape_part
from codegemma.model.lineage import Lineage
from codegemma.model.write import convert, write_model

SHAPES = {"2b": codegemma_2b, "7b": codegemma_7b}
ROUND = (("hf", "orbax"), ("orbax", "flax"), ("flax", "hf-again"))
_LOOKS_PER_S = 50


class AnonymousMemory:
    """The most anonymous memory that this process had while it was watched, and when the watching began, in bytes."""

    def __init__(self) -> None:
        self.start = self.peak = read_anonymous_bytes()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._is_over.wait(1 / _LOOKS_PER_S):
            self.peak = max(self.peak, read_anonymous_bytes())

    def stop(self) -> int:
        """Return how far memory rose above where it was."""
        self._is_over.set()
        self._thread.join()
        return max(self.peak, read_anonymous_bytes()) - self.start


def read_anonymous_bytes() -> int:
    """Read RssAnon of this process: what it holds that is not a page of a file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("this kernel does not tell RssAnon")


def draw_weights(config: GemmaConfig, seed: int) -> Weights:
    """Make random bf16 weights that are drawn when they are read, the same each time."""

    def read(part: Part, rows: slice) -> np.ndarray:
        shape = shape_part(config, part)
        count = len(range(*rows.indices(shape[0])))
        key = [seed, *part.name.encode(), *part.at, rows.start or 0]
        drawn = np.random.default_rng(key).standard_normal((count, *shape[1:]), np.float32)
        return (drawn * np.float32(0.02)).astype(DTYPES["bf16"])

    return Weights(Path(), "drawn", config, DTYPES["bf16"], read)


def take_step(folder: Path, name: str, config: GemmaConfig) -> dict[str, Any]:
    """Do one step in this process and tell what it took."""
    if name.startswith("load"):
        from codegemma.model.weights import load_model  # before the watch: JAX itself is not the question
    memory = AnonymousMemory()
    started, cpu = time.perf_counter(), time.process_time()
    target_bytes = config.count_parameters() * (4 if name == "load as f32" else 2)
    if name == "draw":
        write_model(
            folder / "hf", draw_weights(config, 0), huggingface.write_weights, DTYPES["bf16"], Lineage(None), {}
        )
    elif name.startswith("load"):
        params, _ = load_model(folder / "hf", "f32" if name == "load as f32" else "bf16")
        for value in params.values():
            value.block_until_ready()
    else:
        source, _, target = name.partition(" -> ")
        convert(folder / source, folder / target, target.removesuffix("-again"))
    return {
        "step": name,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "anonymous_MiB": round(memory.stop() / 2**20),
        "share_of_weights": round(memory.peak / target_bytes, 3),
        "weights_MiB": round(target_bytes / 2**20),
    }


def hash_file(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_step(folder: Path, name: str, arguments: list[str]) -> dict[str, Any]:
    """Take a step in a process of its own."""
    command = [sys.executable, __file__, *arguments, "--folder", str(folder), "--step", name]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"}
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main() -> int:
    """Take the round and print the table; 1 where a bit changed or memory went past the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SHAPES, default="2b")
    parser.add_argument("--layers", type=int, help="Fewer layers than the model has.")
    parser.add_argument("--folder", type=Path, help="Where copies go [default: a temporary folder].")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    config = SHAPES[chosen.model]()
    config = dataclasses.replace(config, num_layers=chosen.layers or config.num_layers)
    if chosen.step:
        print(json.dumps(take_step(chosen.folder, chosen.step, config)))
        return 0
    arguments = ["--model", chosen.model, "--layers", str(config.num_layers)]
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        return take_round(Path(name), config, arguments)


def take_round(folder: Path, config: GemmaConfig, arguments: list[str]) -> int:
    """Print one row a step, then the verdict."""
    print(f"{config.count_parameters():,} parameters, {config.num_layers} layers; {platform.machine()}, "
          f"{os.cpu_count()} cores, numpy {np.__version__}\n")  # fmt: skip
    print("| step | wall, s | CPU, s | weights, MiB | anonymous memory above start, MiB | peak over weights |")
    print("|---|---|---|---|---|---|")
    worst = 0.0
    for name in ("draw", *(f"{a} -> {b}" for a, b in ROUND), "load as bf16", "load as f32"):
        row = run_step(folder, name, arguments)
        print(f"| {name} | {row['seconds']} | {row['cpu_s']} | {row['weights_MiB']:,} | {row['anonymous_MiB']:,} "
              f"| {row['share_of_weights']:.3f} |", flush=True)  # fmt: skip
        worst = max(worst, row["share_of_weights"])
        done = name.partition(" -> ")[0]
        if done not in ("hf", "draw") and (folder / done).is_dir():
            shutil.rmtree(folder / done)  # not all copies at a time on the disk
    names = sorted(path.name for path in (folder / "hf").glob("*") if path.suffix in (".safetensors", ".json"))
    same = [hash_file(folder / "hf" / n) == hash_file(folder / "hf-again" / n) for n in names if "lineage" not in n]
    print(f"\n{'bit for bit the same' if all(same) else 'NOT THE SAME'}: {len(same)} files, compared by SHA-256")
    print(f"anonymous memory at most {worst:.3f} times the weights, the interpreter and JAX included (limit 1.15)")
    return 0 if all(same) and worst <= 1.15 else 1


if __name__ == "__main__":
    sys.exit(main())
