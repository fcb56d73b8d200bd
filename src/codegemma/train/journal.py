"""What a run writes as it goes on: lines of metrics, samples, marks of its rows, steps that went wrong, boards.

**In**: finished steps.
**Out**: the files of a run's folder, none of them told twice after a resume; bad steps on the log as well.
**Not**: checkpoints and the model. Of several processes only the leader writes: the others' journals are silent.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from codegemma.feed.loader import Loader
from codegemma.records import Batch, Completion
from codegemma.train.boards import Boards
from codegemma.train.divergence import describe_bad_step
from codegemma.train.meters import LineFile
from codegemma.train.replay import ROWS_FILE, mark_rows

METRICS_FILE = "metrics.jsonl"
SAMPLES_FILE = "samples.jsonl"
DIVERGENCES_FILE = "divergences.jsonl"

_log = logging.getLogger(__name__)


class Journal:
    """The files of one run, opened after its resume: what was written after `restored_step` is forgotten."""

    def __init__(self, out: Path, restored_step: int, boards: Boards) -> None:
        self._out = out
        self._metrics = LineFile(out / METRICS_FILE, restored_step)
        self._samples = LineFile(out / SAMPLES_FILE, restored_step)
        self._rows = LineFile(out / ROWS_FILE, restored_step)
        self._divergences = LineFile(out / DIVERGENCES_FILE, restored_step)
        self._marked_step = 0
        self._boards = boards

    def write_line(self, line: Mapping[str, int | float]) -> None:
        """Write a line of metrics."""
        self._metrics.append(line)
        self._boards.tell(line)

    def mark_rows(self, step: int, batch: Batch, loader: Loader) -> None:
        """Write down which rows a step read, once."""
        if step != self._marked_step:
            self._rows.append(mark_rows(step, batch, loader))
            self._marked_step = step

    def write_sample(self, step: int, completion: Completion) -> None:
        """Write what the model makes of the fixed request."""
        self._samples.append({"step": step, "text": completion.text, "stop_reason": completion.stop_reason.value})
        self._boards.show(step, completion.text)

    def tell_bad_step(self, step: int, values: Mapping[str, float], batch: Batch, loader: Loader) -> None:
        """Write down a step that changed nothing because it was bad, and what it read."""
        line = describe_bad_step(step, values)
        self._divergences.append(line)
        self.mark_rows(step, batch, loader)
        _log.warning(
            "step %s was bad and changed nothing: loss %s (usual %.4g), gradient norm %s (usual %.4g); "
            "`codegemma trace %s --step %s` tells what it read",
            *(step, line["loss"], values["usual_loss"], line["gradient_norm"], values["usual_norm"]),
            *(self._out, step),
        )

    def close(self) -> None:
        """Close what is open."""
        self._boards.close()


class SilentJournal(Journal):
    """The journal of a process that leads nobody."""

    def __init__(self) -> None:
        pass

    def write_line(self, line: Mapping[str, int | float]) -> None:
        """Write nothing."""

    def mark_rows(self, step: int, batch: Batch, loader: Loader) -> None:
        """Write nothing."""

    def write_sample(self, step: int, completion: Completion) -> None:
        """Write nothing."""

    def tell_bad_step(self, step: int, values: Mapping[str, float], batch: Batch, loader: Loader) -> None:
        """Write nothing."""

    def close(self) -> None:
        """Close nothing."""
