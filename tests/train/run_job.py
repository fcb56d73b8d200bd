"""A run in a process of its own, for tests that kill it: tells every step, then the result as JSON."""

import dataclasses
import json
import sys
from pathlib import Path

from codegemma.feed.choices import FeedChoices
from codegemma.model.config import GemmaConfig
from codegemma.text.tokenizer import Tokenizer
from codegemma.train.choices import TrainChoices
from codegemma.train.job import TrainJob
from codegemma.train.loop import train

CONFIG = GemmaConfig(512, 32, 1, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=64)
CHOICES = TrainChoices(
    batch_rows=2,
    row_tokens=64,
    steps=12,
    warmup_steps=2,
    save_every_steps=5,
    log_every_steps=3,
    sample_every_steps=6,
    save_dtype="float32",
)


def tell(stage: str, done: int, total: int | None) -> None:
    print(stage, done, total, flush=True)


if __name__ == "__main__":
    data, tokenizer, out = (Path(argument) for argument in sys.argv[1:4])
    choices = dataclasses.replace(CHOICES, steps=int(sys.argv[4]), save_every_steps=3)
    job = TrainJob(data, out, choices, FeedChoices(packing_bins=2), Tokenizer.load(tokenizer), CONFIG)
    print(json.dumps(dataclasses.asdict(train(job, tell)), default=str))
