"""Whether a model that learned a repository forgot what it knew: the loss before and after, on both kinds of code.

**In**: the base and the adapted model, held-out files, the folder of a package as general code; a limit.
**Out**: `LossChange`s, kept like answers; `ForgettingError`, raised when the model is kept aside.
**Not**: a cure. The message says which choices are known to help.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegemma.engine.completer import GeneratorCompleter
from codegemma.engine.engine import Engine
from codegemma.errors import UserError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.general import (
    FileLoss,
    LossChange,
    Text,
    choose_general,
    choose_heldout,
    compare_losses,
    measure_files,
    name_package,
)
from codegemma.evals.scoring import Subject
from codegemma.files import write_whole
from codegemma.model.weights import list_model_files
from codegemma.recipe import fingerprint, from_plain, to_plain
from codegemma.records import Pack
from codegemma.runner import Progress, prefix_stages
from codegemma.shards import find_format, read_records

LOSSES_FILE = "losses.json"
GENERAL, REPOSITORY = "general code", "repository, held out"


class ForgettingError(UserError):
    """A model lost more of its general ability than was allowed; it is kept aside. `result` is what was measured."""

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True, slots=True)
class ReadFiles:
    """The losses of one model, and what they were measured on."""

    key: str
    losses: tuple[FileLoss, ...]


def measure_change(
    models: tuple[Path | None, Path],
    data: Path,
    general: Path | None,
    out: Path,
    choices: EvalChoices,
    on_progress: Progress,
) -> tuple[LossChange, ...]:
    """Measure the loss of the base, if there is one, and of the adapted model on held-out files and on general code.

    Raises:
        InputError: a model or the data cannot be read.
        OutputError: `out` cannot be written.
    """
    base, adapted = models
    heldout = choose_heldout(read_records(find_format(data / "packs-heldout.parquet"), Pack), choices.general_chars)
    sets = {REPOSITORY: (heldout, f"{len(heldout)} files")}
    if general is not None and choices.general_chars:
        texts = choose_general(general, choices.general_chars)
        sets[GENERAL] = (texts, f"{name_package(general)}, {len(texts)} files")
    changes = []
    for name, (texts, source) in sets.items():
        if not texts:
            continue
        after = _measure(adapted, texts, out / f"adapted-{_spell(name)}", prefix_stages(on_progress, "adapted: "))
        before = None
        if base is not None:
            before = _measure(base, texts, out / f"base-{_spell(name)}", prefix_stages(on_progress, "base: "))
        changes.append(compare_losses(name, source, before, after))
    return tuple(changes)


def find_loss(changes: Sequence[LossChange], choices: EvalChoices) -> LossChange | None:
    """Return the change of general code if it is a loss past the limit."""
    for change in changes:
        share = change.change_share
        if change.name == GENERAL and share is not None and choices.max_general_loss is not None:
            return change if share > choices.max_general_loss else None
    return None


def describe_loss(change: LossChange, kept: Path, choices: EvalChoices) -> str:
    """Say what was lost, where the model is, and what to do."""
    limit = choices.max_general_loss or 0.0
    before = 0.0 if change.before is None else change.before.mean
    return (
        f"the model forgot: general code ({change.source}) takes {change.after.mean:.3f} bits a byte, {before:.3f} "
        f"before, {change.change_share or 0.0:.1%} more where at most {limit:.0%} are allowed. It is kept in {kept}, "
        "and not made the job's model. Train in another --out with a lower train.peak_learning_rate, fewer steps or "
        "minutes, or adapters (--set train.lora.rank=16); or take it as it is: the same command with "
        "--set evals.max_general_loss=none"
    )


def _measure(model: Path, texts: Sequence[Text], folder: Path, on_progress: Progress) -> tuple[FileLoss, ...]:
    """Read the files with a model, unless it has read these before."""
    stamps = [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in list_model_files(model)]
    key = fingerprint(stamps, [[text.path, text.text] for text in texts])
    file = folder / LOSSES_FILE
    try:
        kept: ReadFiles = from_plain(ReadFiles, json.loads(file.read_text(encoding="utf-8")))
        if kept.key == key:
            return kept.losses
    except (OSError, ValueError):
        pass
    engine = Engine.load(model)
    subject = Subject(GeneratorCompleter(engine), engine.tokenizer, engine.max_context_tokens, ())
    losses = tuple(measure_files(subject, texts, on_progress))
    write_whole(file, json.dumps(to_plain(ReadFiles(key, losses))).encode())
    return losses


def _spell(name: str) -> str:
    return name.partition(",")[0].replace(" ", "-")
