"""Converts a model of drawn weights through every format and back, completes with it, and tells what each step took.

    python tools/convert_round.py                     # CodeGemma 2B: 2,506,172,416 parameters, 5 GB a copy in bf16
    python tools/convert_round.py --model 7b --layers 1

Every step runs in a process of its own, whose memory is watched. `make convert-2b` writes what this prints into
docs/convert-2b.md. At its full depth the 2B takes 15 GB of disk and 12 GB of memory.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import codegemma
from codegemma.model.config import GemmaConfig, codegemma_2b, codegemma_7b
from codegemma.model.formats import huggingface
from codegemma.model.formats.parts import DTYPES, Part, Weights, shape_part
from codegemma.model.lineage import Lineage, find_commit
from codegemma.model.write import convert, write_model
from codegemma.text.tokenizer import TOKENIZER_FILE

SHAPES = {"2b": codegemma_2b, "7b": codegemma_7b}
# Each copy: what it is made from, and by which `--to` and `--dtype`. A copy goes when nothing more is made from it.
COPIES = {
    "orbax": ("hf", "orbax", None),
    "flax": ("orbax", "flax", None),
    "gguf": ("flax", "gguf", None),
    "hf-again": ("gguf", "hf", None),
    "gguf-int8": ("hf", "gguf", "int8"),
    "qwix-int8": ("hf", "qwix", "int8"),
}
COMPLETED = ("hf", "qwix-int8")  # by the engine that `codegemma complete` chooses; llama.cpp alone with gguf-int8
_DTYPE_BYTES = {"f32": 4, "bf16": 2, "int8": 1}
_LOOKS_PER_S = 50
_NEW_TOKENS = 4
# What is promised: anonymous memory over the weights in the type of the target, and all memory of a completion.
MAX_SHARE, MAX_COMPLETION_BYTES = 1.15, 12 * 2**30
LOG_MARK = "<!-- output: begin -->"
BASE = Path(codegemma.__file__).parent / "bases" / "tiny"


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
        self.peak = max(self.peak, read_anonymous_bytes())
        return self.peak - self.start


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


def take_step(folder: Path, step: str, config: GemmaConfig) -> dict[str, Any]:
    """Do one step in this process and tell what it took: `draw`, `copy NAME`, `load DTYPE` or `llama.cpp NAME`."""
    act, _, name = step.partition(" ")
    if act == "llama.cpp":
        return ask_llama_cpp(folder / name / "model.gguf", [2, *range(300, 340)])
    if act == "load":
        from codegemma.model.weights import load_model  # before the watch: JAX itself is not the question
    dtype = name if act == "load" else COPIES[name][2] if act == "copy" else None
    memory = AnonymousMemory()
    started, cpu = time.perf_counter(), time.process_time()
    if act == "draw":
        files = {file: (BASE / file).read_bytes() for file in (TOKENIZER_FILE, "run.json")}
        write_model(
            folder / "hf", draw_weights(config, 0), huggingface.write_weights, DTYPES["bf16"], Lineage(None), files
        )
    elif act == "load":
        params, _ = load_model(folder / "hf", "f32" if name == "f32" else "bf16")
        for value in params.values():
            value.block_until_ready()
    else:
        source, to, _ = COPIES[name]
        convert(folder / source, folder / name, to, dtype)
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    rise = memory.stop()
    weights_bytes = config.count_parameters() * _DTYPE_BYTES[dtype or "bf16"]
    return {"seconds": seconds, "cpu_s": cpu_s, "weights": weights_bytes, "rise": rise, "peak": memory.peak}


def complete(folder: Path) -> dict[str, Any]:
    """Run `codegemma complete` on a copy; its peak memory is all that was resident, mapped files too."""
    source = folder.parent / "cursor.py"
    source.write_text("def add(a, b):\n    return \n")
    command = ["complete", str(folder), f"{source}:2:12", "--json", "--max-new-tokens", str(_NEW_TOKENS)]
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "codegemma", *command],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(folder.parent / "cache")},
    ) as process:
        told = process.stdout.read() if process.stdout else ""
        _, status, used = os.wait4(process.pid, 0)  # the peak of this child alone
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: ended with {process.returncode}")
    answer = json.loads(told)
    return {
        "seconds": time.perf_counter() - started,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss * 1024,
        "load_s": answer["load_s"],
        "answer_s": answer["answer_s"],
        "tokens": answer["prompt_tokens"] + answer["tokens"],
    }


def ask_llama_cpp(file: Path, ids: list[int]) -> dict[str, Any]:
    """Complete in this process with llama.cpp on a GGUF file."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_parallel = 2048, 512, 512, 1
    params.warmup = params.fit_params = False
    params.verbosity = -1
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        params.port = free.getsockname()[1]
    started = time.perf_counter()
    server = xllamacpp.Server(params)
    loaded = time.perf_counter()
    body = json.dumps({"prompt": ids, "n_predict": _NEW_TOKENS, "temperature": 0, "return_tokens": True}).encode()
    request = urllib.request.Request(server.listening_address + "/completion", body)  # noqa: S310 (its own address)
    with urllib.request.urlopen(request, timeout=600) as answer:  # noqa: S310
        tokens = len(ids) + len(json.load(answer)["tokens"])
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": time.perf_counter() - started,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss * 1024,
        "load_s": loaded - started,
        "answer_s": time.perf_counter() - loaded,
        "tokens": tokens,
    }


def hash_file(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_step(folder: Path, step: str, arguments: list[str]) -> dict[str, Any]:
    """Take a step in a process of its own."""
    command = [sys.executable, __file__, *arguments, "--folder", str(folder), "--step", step]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"}
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def take_round(folder: Path, arguments: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Take the steps one after the other and yield what each took; not all copies lie on the disk at a time."""
    yield "draw", run_step(folder, "draw", arguments)
    for dtype in ("bf16", "f32"):
        yield f"load as {dtype}", run_step(folder, f"load {dtype}", arguments)
    copies = list(COPIES.items())
    for place, (name, (source, to, rounded)) in enumerate(copies):
        asked = f" --dtype {rounded}" if rounded else ""
        yield f"{source} -> {name} (`--to {to}{asked}`)", run_step(folder, f"copy {name}", arguments)
        if source != "hf" and source not in [later[0] for _, later in copies[place + 1 :]]:
            shutil.rmtree(folder / source)


def compare(folder: Path) -> str | None:
    """Compare the files of the first and the last copy; return what differs."""
    names = sorted(path.name for path in (folder / "hf").iterdir() if "lineage" not in path.name)
    return next((n for n in names if hash_file(folder / "hf" / n) != hash_file(folder / "hf-again" / n)), None)


def tell_round(folder: Path, arguments: list[str], tell: Callable[[str], None]) -> int:
    """Tell the tables and the verdicts; 1 where a bit changed or memory went past what is promised."""
    worst = 0.0
    tell("| step | wall, s | CPU, s | weights, MiB | anonymous memory above start, MiB | peak over weights |")
    tell("|---|---|---|---|---|---|")
    for name, row in take_round(folder, arguments):
        share = row["peak"] / row["weights"]
        tell(f"| {name} | {row['seconds']:.1f} | {row['cpu_s']:.1f} | {row['weights'] >> 20:,} "
              f"| {row['rise'] >> 20:,} | {share:.3f} |")  # fmt: skip
        worst = max(worst, share)
    differing = compare(folder)
    verdict = "bit for bit the same" if differing is None else f"NOT THE SAME: {differing}"
    tell(f"\nhf and hf-again, through orbax, flax and gguf: {verdict}, by SHA-256 of every file but lineage.json.")
    tell(f"Anonymous memory: at most {worst:.3f} times the weights, interpreter and JAX included "
          f"(limit {MAX_SHARE}).\n")  # fmt: skip
    shutil.rmtree(folder / "hf-again")
    tell(f"| completing {_NEW_TOKENS} tokens | wall, s | CPU, s | loading, s | reading and writing, s "
          "| tokens | peak memory, MiB |")  # fmt: skip
    tell("|---|---|---|---|---|---|---|")
    most = 0
    answers = {f"`codegemma complete`, {name}": partial(complete, folder / name) for name in COMPLETED}
    answers["llama.cpp, gguf-int8"] = partial(run_step, folder, "llama.cpp gguf-int8", arguments)
    for name, answer in answers.items():
        row = answer()
        tell(f"| {name} | {row['seconds']:.1f} | {row['cpu_s']:.1f} | {row['load_s']:.1f} | {row['answer_s']:.1f} "
              f"| {row['tokens']} | {row['peak'] >> 20:,} |")  # fmt: skip
        most = max(most, row["peak"])
    tell(f"\nPeak memory of a completion: {most / 2**30:.1f} GiB, mapped files included (limit 12).")
    return 0 if differing is None and worst <= MAX_SHARE and most < MAX_COMPLETION_BYTES else 1


def main() -> int:
    """Take the round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SHAPES, default="2b")
    parser.add_argument("--layers", type=int, help="Fewer layers than the model has.")
    parser.add_argument("--vocab-size", type=int, help="Fewer rows of the embedding than the model has.")
    parser.add_argument("--folder", type=Path, help="Where copies go [default: a temporary folder].")
    parser.add_argument("--log", type=Path, help="A page whose part below the mark becomes what is printed.")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    config = SHAPES[chosen.model]()
    layers, rows = chosen.layers or config.num_layers, chosen.vocab_size or config.vocab_size
    config = dataclasses.replace(config, num_layers=layers, vocab_size=rows)
    if chosen.step:
        print(json.dumps(take_step(chosen.folder, chosen.step, config)))
        return 0
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, commit {(find_commit() or 'unknown')[:10]}. {config.count_parameters():,} "
        f"parameters in bfloat16, {config.num_layers} layers; {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, numpy {np.__version__}.\n"
    ]
    print(lines[0])

    def tell(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    arguments = ["--model", chosen.model, "--layers", str(layers), "--vocab-size", str(rows)]
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        code = tell_round(Path(name), arguments, tell)
    if chosen.log:
        head = chosen.log.read_text().partition(LOG_MARK)[0]
        chosen.log.write_text(head + LOG_MARK + "\n" + "\n".join(lines) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
