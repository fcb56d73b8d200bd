"""One of two processes that train together: takes up the runs that it is told to, one after another.

Arguments: address, number, folder with data and tokenizer.json, then for each run NAME:MESH:STOP, such as a:1x-1x1:6,
where process 1 is interrupted after step STOP (0: never).
"""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

from codegemma.cli.ending import tell_error
from codegemma.feed.choices import FeedChoices
from codegemma.records import Request
from codegemma.text.tokenizer import Tokenizer
from codegemma.train.guards import InterruptedRun
from codegemma.train.hosts import Cluster, is_leader, join_cluster
from codegemma.train.job import TrainJob
from codegemma.train.loop import train

from .run_job import CHOICES, CONFIG

# In float32: what differs between meshes is then rounding alone.
SHARED_CHOICES = dataclasses.replace(
    CHOICES, batch_rows=4, compute_dtype="float32", save_every_steps=4, sample_every_steps=12
)
SAMPLED = ("alone", "grows")
SAMPLE = Request("def encode(self, text: str) -> ", "\n", path="tokenizer.py", max_new_tokens=8)


def make_job(folder: Path, name: str, mesh: tuple[int, int, int]) -> TrainJob:
    choices = dataclasses.replace(SHARED_CHOICES, mesh=mesh)
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    sample = SAMPLE if name in SAMPLED else None
    return TrainJob(folder, folder / name, choices, FeedChoices(packing_bins=2), tokenizer, CONFIG, sample=sample)


def parse_mesh(text: str) -> tuple[int, int, int]:
    data, fsdp, tensor = map(int, text.split("x"))
    return data, fsdp, tensor


def take_up(folder: Path, text: str) -> None:
    name, mesh, stop = text.split(":")

    def interrupt(stage: str, done: int, total: int | None) -> None:
        if not is_leader() and done == int(stop):
            os.kill(os.getpid(), signal.SIGINT)

    try:
        result = train(make_job(folder, name, parse_mesh(mesh)), interrupt)
        told = f"resumed {result.resumed_step}, ended {result.steps}"
    except InterruptedRun as error:
        told = str(error)
    if is_leader():
        print(json.dumps([name, told]), flush=True)


if __name__ == "__main__":
    address, number, place, *runs = sys.argv[1:]
    with join_cluster(Cluster(address, 2, int(number)), tell_error):
        for one in runs:
            take_up(Path(place), one)
