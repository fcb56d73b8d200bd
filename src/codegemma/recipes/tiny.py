"""The whole river in minutes on a CPU: adapt the shipped base to a repository.

codegemma adapt path/to/repo --out my-model --recipe tiny
"""

import dataclasses

from codegemma.evals.choices import EvalChoices
from codegemma.recipes import Recipe, tiny_base
from codegemma.train.choices import TrainChoices

RECIPE = Recipe(
    name="tiny",
    base="tiny",
    model=tiny_base.RECIPE.model,
    # PSM is what the base knows least, and in a short run most of what is new to it stands in the middles.
    feed=dataclasses.replace(tiny_base.RECIPE.feed, spm_share=0.25, middle_weight=8.0),
    train=TrainChoices(batch_rows=3, row_tokens=320, margin_tokens=64, peak_learning_rate=2.5e-4, warmup_steps=50),
    evals=EvalChoices(max_holes_per_kind=500, generated_holes=100),
)
