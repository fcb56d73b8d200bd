"""Puts several models before the same held-out holes, and remembers what each answered.

**In**: model folders by name, the first of which is the one that the others are compared with; a data folder.
**Out**: `HoleResult`s of all of them and of the baselines; notes on models that never learned what is asked.
**Not**: differences and intervals; those are `evals/measure.py`. A model that was examined already is not asked again.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from codegemma.engine.completer import GeneratorCompleter
from codegemma.engine.engine import Engine
from codegemma.errors import OutputError
from codegemma.evals.choices import EvalChoices
from codegemma.evals.results import RESULTS_FILE
from codegemma.evals.run import evaluate, read_hole_results
from codegemma.evals.scoring import HoleResult, Subject
from codegemma.files import write_whole
from codegemma.model.infill_modes import read_infill_modes
from codegemma.model.weights import list_model_files
from codegemma.recipe import fingerprint
from codegemma.records import Split
from codegemma.runner import Progress, prefix_stages
from codegemma.shards import list_parts

HOLES_FILE = "holes-heldout.jsonl"
# What an evaluation was made of: written last and taken away first, so that it never vouches for another's holes.
KEY_FILE = "key.json"


def examine(
    systems: Mapping[str, Path], data: Path, out: Path, choices: EvalChoices, on_progress: Progress
) -> tuple[list[HoleResult], tuple[str, ...]]:
    """Ask every system, in the modes that the first of them learned, and the baselines once; keep answers in `out`.

    Raises:
        InputError: a model or the data cannot be read.
        OutputError: `out` cannot be written.
    """
    first = next(iter(systems))
    modes = read_infill_modes(systems[first])
    results: list[HoleResult] = []
    notes: list[str] = []
    for name, model in systems.items():
        learned = read_infill_modes(model)
        if unlearned := [mode.upper() for mode in modes if mode not in learned]:
            notes.append(f"{name} never learned {' or '.join(unlearned)}: its figures there are those of a beginner")
        folder = out / name.replace(" ", "-")
        # The baselines need no model: they are examined once, beside the first one.
        asked = replace(choices, has_baselines=name == first)
        key = fingerprint(asked, modes, [_stamp(file) for file in _list_read(model, data, asked)])
        if _read_key(folder) != key:
            _forget(folder)
            engine = Engine.load(model)
            subject = Subject(GeneratorCompleter(engine), engine.tokenizer, engine.max_context_tokens, modes)
            label = prefix_stages(on_progress, f"{name}: ")
            evaluate(subject, ["heldout"], data=[data], out=folder, model=str(model), choices=asked, on_progress=label)
            write_whole(folder / KEY_FILE, json.dumps({"key": key}).encode())
        found = read_hole_results(folder / HOLES_FILE)
        results += [replace(r, system=name) if r.system == "model" else r for r in found]
    return results, tuple(notes)


def _list_read(model: Path, data: Path, choices: EvalChoices) -> list[Path]:
    """List the files that an evaluation hangs on: the baselines read the training side as well."""
    splits = [Split.HELDOUT, Split.TRAIN] if choices.has_baselines else [Split.HELDOUT]
    packs = [part for split in splits for part in list_parts(data / f"packs-{split}.parquet")]
    return [*list_model_files(model), *packs]


def _stamp(file: Path) -> list[str | int]:
    about = file.stat()
    return [str(file), about.st_size, about.st_mtime_ns]


def _forget(folder: Path) -> None:
    """Take away what vouches for an evaluation, and its summary: it may be of another model."""
    try:
        for file in (KEY_FILE, RESULTS_FILE):
            (folder / file).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from error


def _read_key(folder: Path) -> str | None:
    try:
        key = json.loads((folder / KEY_FILE).read_text(encoding="utf-8"))["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(key) if (folder / RESULTS_FILE).is_file() else None
