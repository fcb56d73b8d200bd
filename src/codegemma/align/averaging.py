"""Averages checkpoints of one run: a mean of the last few is often better than the last (Izmailov et al. 1803.05407).

**In**: model folders of one shape, or the checkpoints that a run kept.
**Out**: a model folder of their mean, with the tokenizer and run file of the last.
**Not**: a better schedule: where the rate has fallen to nothing, the last few are nearly the same.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from codegemma.errors import InputError
from codegemma.model.gemma import Params
from codegemma.model.lineage import read_lineage
from codegemma.model.weights import describe_model, load_model, save_model
from codegemma.text.tokenizer import TOKENIZER_FILE
from codegemma.train.checkpoint import Checkpoints
from codegemma.train.choices import TrainChoices
from codegemma.train.manifest import MODEL_FOLDER, RUN_FILE
from codegemma.train.step import describe_state, describe_trained


def average_params(models: Sequence[Params]) -> Params:
    """Take the mean of each parameter.

    >>> one, three = {"emb": np.float32([1.0])}, {"emb": np.float32([3.0])}
    >>> average_params([one, three])["emb"].tolist()
    [2.0]

    Raises:
        InputError: the models are of different shapes.
    """
    if len({jax.tree.structure(model) for model in models}) != 1 or any(
        a.shape != b.shape for model in models for a, b in zip(*map(jax.tree.leaves, (models[0], model)), strict=True)
    ):
        raise InputError("models of different shapes have no mean: name checkpoints of one run")
    mean: Params = jax.tree.map(
        lambda *leaves: np.mean([np.asarray(leaf, np.float64) for leaf in leaves], axis=0).astype(np.float32), *models
    )
    return mean


def average_models(folders: Sequence[Path], out: Path) -> Path:
    """Write the mean of model folders to `out`."""
    return _save([load_model(folder)[0] for folder in folders], folders[-1], out)


def average_run(run: Path, choices: TrainChoices, steps: int, count: int) -> Path:
    """Write the mean of the newest `count` checkpoints of a finished run beside its model, and tell where.

    Raises:
        InputError: the run kept fewer; `train.keep_checkpoints` says how many it keeps.
    """
    config = describe_model(run / MODEL_FOLDER)
    like = describe_state(describe_trained(config, choices.lora), config, choices, steps, None)
    checkpoints = Checkpoints(run / "checkpoints", choices.keep_checkpoints)
    try:
        states = checkpoints.restore_newest(like, count)
    finally:
        checkpoints.close()
    if len(states) < count:
        raise InputError(
            f"{run} kept {len(states)} checkpoints, and {count} are to be averaged: set keep_checkpoints to that and "
            "save_every_steps lower"
        )
    return _save([state.params for state in states], run / MODEL_FOLDER, run / "average" / MODEL_FOLDER)


def _save(models: Sequence[Params], last: Path, out: Path) -> Path:
    config = describe_model(last)
    names = (TOKENIZER_FILE, RUN_FILE)
    files = {name: (last / name).read_bytes() for name in names if (last / name).is_file()}
    lineage = read_lineage(last, config).extend("average", models=len(models))
    save_model(out, average_params(models), config, dtype="float32", lineage=lineage, extra_files=files)
    return out
