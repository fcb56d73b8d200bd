"""The three stages of tuning on two cores: the shipped base learns to write small functions, then to write them right.

    codegemma align --base tiny --recipe tiny_it --out tuned

Half of the demonstrations are careless at an edge, as people's are: instruction tuning ends near the share of problems
that need no care, DPO and GRPO learn from tests that run. `docs/tuning.md` has the figures.
"""

import dataclasses

from codegemma.align.choices import (
    AlignChoices,
    ExerciseChoices,
    PolicyChoices,
    PreferenceChoices,
    SamplingChoices,
)
from codegemma.recipes import Recipe, tiny_base
from codegemma.train.choices import TrainChoices

_STAGE = TrainChoices(
    # Log-probabilities of the writer and of the learner are compared: both compute in float32.
    compute_dtype="float32",
    batch_rows=32,
    peak_learning_rate=1e-4,
    warmup_steps=10,
    weight_decay=0.0,
    save_every_steps=50,
    save_dtype="float32",
    # What is usual for a policy's gradient changes with what it still gets wrong.
    max_norm_ratio=1e3,
)
_SAMPLING = SamplingChoices(answers=8, temperature=1.0, max_new_tokens=96)

RECIPE = Recipe(
    name="tiny_it",
    base="tiny",
    model=tiny_base.RECIPE.model,
    feed=tiny_base.RECIPE.feed,
    align=AlignChoices(
        exercises=ExerciseChoices(),
        sft=TrainChoices(
            steps=1500,
            batch_rows=16,
            row_tokens=256,
            peak_learning_rate=1e-3,
            warmup_steps=50,
            save_every_steps=500,
            sample_every_steps=10_000,
            save_dtype="float32",
        ),
        # A pair differs in a few tokens of the same program: held loosely (0.1), both its answers became ever less
        # likely, by 58 nats, and nothing was solved any more.
        preference=PreferenceChoices(
            beta=1.0, problems=2000, sampling=_SAMPLING, train=dataclasses.replace(_STAGE, steps=100)
        ),
        policy=PolicyChoices(problems=32, sampling=_SAMPLING, train=dataclasses.replace(_STAGE, steps=100)),
        rehearsal_share=0.4,
        rehearsal_rows=4,
    ),
)
