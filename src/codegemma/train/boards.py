"""Where the course of a run is shown besides its own files: TensorBoard always, Weights & Biases where it is asked for.

**In**: lines of metrics, samples.
**Out**: event files in the run's folder; with `train.wandb_project`, what its library sends or keeps (`WANDB_MODE`).
**Not**: `metrics.jsonl`, which is the run's own account.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from codegemma.errors import InputError


class Board(Protocol):
    """Something that shows numbers and texts by step."""

    def tell(self, line: Mapping[str, int | float]) -> None:
        """Show a line of metrics, under its `step`."""

    def show(self, step: int, text: str) -> None:
        """Show what the model wrote."""

    def close(self) -> None:
        """Finish what is not written yet."""


class _TensorBoard:
    def __init__(self, folder: Path, restored_step: int) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=restored_step + 1 if restored_step else None)

    def tell(self, line: Mapping[str, int | float]) -> None:
        for name, value in line.items():
            self._writer.add_scalar(name, value, line["step"])

    def show(self, step: int, text: str) -> None:
        self._writer.add_text("sample", f"```\n{text}\n```", step)

    def close(self) -> None:
        self._writer.close()


class _WandB:
    """A run of Weights & Biases; started again, the same run goes on under the same id."""

    def __init__(self, project: str, out: Path, about: Mapping[str, Any], fingerprint: str) -> None:
        try:
            import wandb
        except ImportError:
            raise InputError(
                'train.wandb_project needs the library of Weights & Biases: pip install "codegemma[wandb]"'
            ) from None
        self._run: Any = wandb.init(
            project=project, name=out.resolve().name, id=fingerprint, resume="allow", dir=str(out), config=dict(about)
        )
        self._html = wandb.Html

    def tell(self, line: Mapping[str, int | float]) -> None:
        self._run.log(dict(line), step=int(line["step"]))

    def show(self, step: int, text: str) -> None:
        from html import escape

        self._run.log({"sample": self._html(f"<pre>{escape(text)}</pre>")}, step=step)

    def close(self) -> None:
        self._run.finish()


class Boards:
    """All boards of a run, told together."""

    def __init__(
        self, out: Path, restored_step: int, wandb_project: str | None, about: Mapping[str, Any], fingerprint: str
    ) -> None:
        """Open them; what they show of steps after `restored_step` is dropped where they can do that.

        Raises:
            InputError: Weights & Biases is asked for and its library is not installed.
        """
        self._boards: list[Board] = [_TensorBoard(out / "tensorboard", restored_step)]
        if wandb_project is not None:
            self._boards.append(_WandB(wandb_project, out, about, fingerprint))

    def tell(self, line: Mapping[str, int | float]) -> None:
        """Show a line of metrics, under its `step`."""
        for board in self._boards:
            board.tell(line)

    def show(self, step: int, text: str) -> None:
        """Show what the model wrote."""
        for board in self._boards:
            board.show(step, text)

    def close(self) -> None:
        """Finish what is not written yet."""
        for board in self._boards:
            board.close()
