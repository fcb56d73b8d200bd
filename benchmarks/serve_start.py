"""How soon `codegemma serve` answers after it was started, beside its floor: bare Python that loads the same file.

    python -m benchmarks.serve_start [MODEL] [--rounds 5] [--minutes 10] [--engine llama.cpp]
    python -m benchmarks.serve_start --layers 18 --tokenizer tokenizer.json

MODEL is whatever `codegemma serve` takes [default: the shipped base]; with `--layers` it is a file of CodeGemma 2B's
shape with so many layers, random weights in Q8_0 and a tokenizer, best Gemma's. Its first start is measured once by
itself: it quantizes, or compiles. Then each round starts both once with the model's files dropped from the system's
memory (cold), and once more (warm). Timed is from the start of the process to the port, to the first answer of a
client that asks again while it hears 503 (`/health`: the server is ready), and to the first completion after that. The
floor loads with the same settings through llama.cpp in a process of its own, and reads and writes as many ids. The
promise: a later start is ready within 3 s. What a completion takes then is the model's time, and what a file takes
that the system has to read first is the disk's.

Each start is printed as it is measured. Five rounds take two minutes on two cores, and with `--layers 18` five, its
file's writing included; no round begins after `--minutes`, and a server that does not answer within five minutes (the
first start: fifteen) ends the run.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.decode_door import draw_model
from benchmarks.typing_trace import load_tokenizer

from codegemma.model.gguf_cache import find_cache, provide_gguf
from codegemma.model.hub import locate_model

_PROMISED_S = 3.0
_LONGEST_S, _LONGEST_FIRST_S = 300.0, 900.0
_BASE = Path(__file__).parents[1] / "src/codegemma/bases/tiny"
_BODY = json.dumps({"input_prefix": "def add(a, b):\n    return ", "input_suffix": "\n", "n_predict": 4}).encode()
# A user's modules are compiled.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
_FLOOR = """
import sys
from pathlib import Path
from codegemma.engine.llama_start import LlamaChoices, start_server
from codegemma.model.gguf_header import read_gguf_header
file = Path(sys.argv[1])
server = start_server(file, read_gguf_header(file), LlamaChoices())
server.handle_completions({"prompt": [2, *range(500, 514)], "n_predict": 4})
print("answered", flush=True)
"""


def start(command: list[str], longest_s: float = _LONGEST_S) -> dict[str, float]:
    """Start a server, ask until it answers, end it; tell the seconds to the port, to readiness and to a completion."""
    started = time.perf_counter()
    times: dict[str, float] = {}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=_ENVIRONMENT) as process:
        assert process.stderr is not None
        address = process.stderr.readline().split()[0]
        times["port"] = time.perf_counter() - started
        while not ask(f"{address}/health"):
            if process.poll() is not None:
                raise SystemExit(f"the server ended: {process.stderr.read()}")
            if time.perf_counter() - started > longest_s:
                process.kill()
                raise SystemExit(f"the server did not answer within {longest_s:g} s")
            time.sleep(0.01)
        times["ready"] = time.perf_counter() - started
        ask(f"{address}/infill", _BODY)
        times["completion"] = time.perf_counter() - started
        process.terminate()
    return times


def ask(address: str, body: bytes | None = None) -> bool:
    """Ask; false while the model is loaded."""
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=600) as reply:  # noqa: S310
            return bool(reply.read())
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
        return False


def load_bare(file: Path) -> float:
    """Load and write in a bare interpreter; tell the seconds to the answer, as its reader sees it."""
    started = time.perf_counter()
    command = [sys.executable, "-c", _FLOOR, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_ENVIRONMENT) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "answered\n":
            raise SystemExit("the floor did not answer")
        return time.perf_counter() - started


def forget_pages(places: list[Path]) -> None:
    """Have the system drop what it keeps of files, which needs no privilege."""
    for file in _list_files(places):
        with file.open("rb") as content:
            os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _list_files(places: list[Path]) -> Iterator[Path]:
    for place in places:
        yield from (place,) if place.is_file() else (file for file in place.rglob("*") if file.is_file())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(_BASE))
    parser.add_argument("--layers", type=int)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--engine", default="llama.cpp", choices=["llama.cpp", "jax", "auto"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.layers:
            options.model = str(draw_model(Path(folder), options.layers, load_tokenizer(options.tokenizer)))
        return measure(options)


def measure(options: argparse.Namespace) -> int:
    """Measure one model and print."""
    command = [sys.executable, "-m", "codegemma", "serve", options.model, "--port", "0", "--engine", options.engine]
    place = locate_model(options.model)
    print(f"first start: completion after {start(command, _LONGEST_FIRST_S)['completion']:.2f} s", flush=True)
    is_llama = options.engine == "llama.cpp"
    file = provide_gguf(place) if is_llama else None
    places = [file if file and file.parent.is_relative_to(find_cache()) else place]
    rounds: list[dict[str, float]] = []
    until = time.monotonic() + options.minutes * 60
    for number in range(options.rounds):
        if rounds and time.monotonic() > until:
            print(f"{options.minutes:g} minutes are over after {number} of {options.rounds} rounds")
            break
        row: dict[str, float] = {}
        for state in ("cold", "warm"):
            if state == "cold":
                forget_pages(places)
            row |= {f"{state} {name}": seconds for name, seconds in start(command).items()}
        if file is not None:
            row["floor"] = load_bare(file)
        rounds.append(row)
        print(f"round {number + 1}: " + ", ".join(f"{name} {s:.2f} s" for name, s in row.items()), flush=True)
    medians = {name: statistics.median(row[name] for row in rounds) for name in rounds[0]}
    for name, seconds in medians.items():
        worst = max(row[name] for row in rounds)
        print(f"{name:15} {seconds:6.2f} s at the median, {worst:.2f} at most")
    if "floor" in medians:
        print(f"warm completion / floor: {medians['warm completion'] / medians['floor']:.2f}")
    is_met = medians["warm ready"] <= _PROMISED_S
    print(f"promise: a later start is ready within {_PROMISED_S:g} s:", "kept" if is_met else "BROKEN")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
