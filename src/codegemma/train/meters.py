"""What a run tells about itself: `metrics.jsonl`, `samples.jsonl` and TensorBoard; nothing told twice after a resume.

**In**: the metrics of each step, seconds, waits.
**Out**: one line each `log_every_steps`, averaged over the steps since the last line.
**Not**: the terminal: whoever called decides what to print.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegemma.errors import OutputError
from codegemma.feed.groups import add_up_by_name
from codegemma.files import write_whole

# Averaged over the steps of a line; everything else is the last step's value.
_AVERAGED = ("loss", "cross_entropy", "plain_cross_entropy", "gradient_norm")


@dataclass(slots=True)
class Meters:
    """Sums since the last line and since the start; saved with the checkpoint, so that lines do not depend on kills.

    `tokens_by_source` counts, since the start, in the order of the loader's sources. `by_group` holds, since the last
    line, the surprise and the number of predicted tokens by what they count under (`feed/groups.py`).
    """

    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    by_group: dict[str, list[float]] = field(default_factory=dict)
    line_tokens: int = 0
    line_seconds: float = 0.0
    line_wait_s: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    wait_s: float = 0.0
    tokens_by_source: list[int] = field(default_factory=list)

    def add(
        self,
        metrics: Mapping[str, float],
        tokens: Sequence[int],
        seconds: float,
        wait_s: float,
        *,
        has_compiled: bool = False,
        is_bad: bool = False,
    ) -> None:
        """Count one finished step and its tokens by source; one that compiled first says nothing about the speed.

        A bad step is in no mean.
        """
        before = self.tokens_by_source or [0] * len(tokens)
        self.tokens_by_source = [sum(pair) for pair in zip(before, tokens, strict=True)]
        if not is_bad:
            self.steps += 1
            for name in _AVERAGED:
                self.sums[name] = self.sums.get(name, 0.0) + metrics[name]
        self.line_tokens += 0 if has_compiled else sum(tokens)
        self.line_seconds += 0.0 if has_compiled else seconds
        self.line_wait_s += wait_s
        self.tokens += sum(tokens)
        self.seconds += seconds
        self.wait_s += wait_s

    def add_groups(self, surprise: Sequence[float], tokens: Sequence[float]) -> None:
        """Count a step's predicted tokens by what they count under; both are in the order of the groups' numbers."""
        for name, pair in add_up_by_name(surprise, tokens).items():
            before = self.by_group.get(name, [0.0, 0.0])
            self.by_group[name] = [before[0] + pair[0], before[1] + pair[1]]

    @property
    def wait_share(self) -> float:
        """Share of the run's time that the trainer waited for data."""
        return self.wait_s / self.seconds if self.seconds else 0.0

    def take_line(self, step: int, metrics: Mapping[str, float], epoch: int) -> dict[str, int | float]:
        """Close a line: averages since the last one. `bits_per_token` counts each predicted token once.

        So does `loss_by_language/python` and the like, in nats, of what was read since the last line.
        """
        means = {name: total / self.steps for name, total in self.sums.items()}
        line: dict[str, int | float] = {
            "step": step,
            **means,
            "bits_per_token": means["plain_cross_entropy"] / math.log(2),
            "learning_rate": metrics["learning_rate"],
            "tokens": self.tokens,
            "tokens_per_s": self.line_tokens / max(self.line_seconds, 1e-9),
            "seconds": self.seconds,
            "data_wait_s": self.line_wait_s,
            "epoch": epoch,
            "bad_steps": int(metrics.get("bad_steps", 0)),
            **{f"loss_by_{name}": total / count for name, (total, count) in sorted(self.by_group.items())},
        }
        self.by_group = {}
        self.steps, self.sums, self.line_tokens, self.line_seconds, self.line_wait_s = 0, {}, 0, 0.0, 0.0
        return line


class LineFile:
    """A file of JSON lines, each with its step, appended to as the run goes on."""

    def __init__(self, path: Path, restored_step: int) -> None:
        """Open the file; lines of steps after `restored_step`, and a torn last line, are dropped."""
        self.path = path
        kept = [line for line in _read_lines(path) if line["step"] <= restored_step]
        write_whole(path, "".join(_format_line(line) for line in kept).encode())

    def append(self, line: Mapping[str, Any]) -> None:
        """Add one line; it is in the file when this returns."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_format_line(line))
        except OSError as error:
            raise OutputError(f"{self.path} could not be written ({error}); make room and start again") from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines of a `metrics.jsonl` or `samples.jsonl`, for plots and tests."""
    return _read_lines(path)


def _format_line(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            line = json.loads(text)
        except ValueError:
            continue  # torn by a kill
        if isinstance(line, dict) and "step" in line:
            lines.append(line)
    return lines
