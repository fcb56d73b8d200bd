"""Drafts through all filters a second, and how full the server is kept: ours, and batch by batch, in one run.

Usage::

    python benchmarks/synthesis.py [--seeds 96] [--slots 16] [--latency-s 0.5]

**In**: a server of our own that answers well after a time drawn around `--latency-s`, to so many at once as it has
slots, as a batching server does; the same snippets, filters and boxes for both.
**Out**: drafts a second, the mean number of busy slots, and the ratio. The contender asks for a batch of drafts, waits
for all, examines all, lets all be judged, and begins the next batch: a script without a pipeline.
**Not**: a model's speed: the server computes nothing, so that what is left is waiting.
"""

import argparse
import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
from tests.http_server import listen

from codegemma.engine.remote import RemoteCompleter
from codegemma.records import Pack, PackedFile, Split
from codegemma.sandbox.box import Sandbox
from codegemma.shards import write_records
from codegemma.synthesis.asking import spell_request
from codegemma.synthesis.choices import SynthesisChoices
from codegemma.synthesis.examination import Examiner
from codegemma.synthesis.outcomes import Draft
from codegemma.synthesis.prompts import ask_for_draft, ask_for_scores, read_draft
from codegemma.synthesis.run import Model, SynthesisJob, synthesize
from codegemma.synthesis.seeds import read_seeds

_DRAFT = """## Problem
Write scale(values, factor), which gives a list of all values times the factor, number {number} of its kind.
## Solution
```python
def scale(values, factor):
    return [factor * value + {number} - {number} for value in values]
```
## Tests
```python
assert scale([], 2) == []
assert scale([1, 2], 3) == [3, 6]
assert scale([0, -1], 2) == [0, -2]
```
"""


class Slots:
    """A server's slots, and how many were busy on average."""

    def __init__(self, count: int, latency_s: float) -> None:
        self.latency_s, self.free = latency_s, threading.Semaphore(count)
        self.busy_s, self.numbers, self.lock = 0.0, iter(range(10**9)), threading.Lock()

    def answer(self, words: str) -> str:
        """Take a slot for as long as an answer takes."""
        with self.lock:
            number = next(self.numbers)
        seconds = self.latency_s * random.Random(number).uniform(0.5, 1.5)
        with self.free:
            time.sleep(seconds)
        with self.lock:
            self.busy_s += seconds
        is_judge = "Judge an exercise" in words
        return "Helpfulness: 5\nCorrectness: 5" if is_judge else _DRAFT.format(number=number)


@contextmanager
def serve(slots: Slots) -> Iterator[str]:
    """Serve on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.tell({"data": [{"id": "slots"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            message = {"role": "assistant", "content": slots.answer(body["messages"][-1]["content"])}
            self.tell({"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"completion_tokens": 99}})

        def tell(self, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with listen(Handler) as address:
        yield address


def run_ours(data: Path, out: Path, remote: RemoteCompleter, choices: SynthesisChoices, slots: int) -> None:
    """Take the pipeline, with half as many requests again under way as there are slots: none waits for the next."""
    model = Model(remote, "slots", slots + slots // 2)
    with Sandbox() as sandbox:
        synthesize(SynthesisJob((data,), out, model, model, choices), sandbox)


def run_batches(data: Path, remote: RemoteCompleter, choices: SynthesisChoices, slots: int) -> None:
    """Take a batch through all filters, then the next."""
    remote.at_once = slots
    with Sandbox() as sandbox:
        examiner = Examiner(sandbox, choices.examination)
        seeds = read_seeds([data], choices)
        for start in range(0, len(seeds), slots):
            batch = seeds[start : start + slots]
            asked = [spell_request(ask_for_draft(seed), choices.generator, 0) for seed in batch]
            drafts = [read_draft(answer.text) for answer in remote.complete_all(asked)]
            sound = [draft for draft in drafts if isinstance(draft, Draft) and examiner.examine(draft).drop is None]
            remote.complete_all([spell_request(ask_for_scores(draft), choices.judge, 0) for draft in sound])
        examiner.close()


def main() -> None:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=96)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--latency-s", type=float, default=0.5)
    args = parser.parse_args()
    choices, none = SynthesisChoices(seeds=args.seeds), np.zeros(0, np.int32)
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "packs-train.parquet"
        text = "first = 1\nsecond = 2\nthird = 3\n"
        files = [PackedFile(f"{n}.py", "python", text, str(n), None, none, none) for n in range(args.seeds)]
        write_records(data, [Pack(file.path, "r", None, Split.TRAIN, (file,)) for file in files])
        for name in ("ours", "batch by batch"):
            slots = Slots(args.slots, args.latency_s)
            with serve(slots) as address:
                remote, began = RemoteCompleter(address), time.perf_counter()
                if name == "ours":
                    run_ours(data, Path(folder) / "made", remote, choices, args.slots)
                else:
                    run_batches(data, remote, choices, args.slots)
                seconds = time.perf_counter() - began
            rates[name] = args.seeds / seconds
            busy = slots.busy_s / seconds
            print(f"{name:15} {rates[name]:6.2f} drafts/s, {busy:5.1f} of {args.slots} slots busy", flush=True)
    print(f"ratio           {rates['ours'] / rates['batch by batch']:6.2f}")


if __name__ == "__main__":
    main()
