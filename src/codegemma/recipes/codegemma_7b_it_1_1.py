"""CodeGemma 7B-IT 1.1: the same model, tuned by another algorithm.

    codegemma align --base google/codegemma-7b --recipe codegemma_7b_it_1_1 --chats chats.jsonl --data data --out it

From the model card: 1.1 differs from 1.0 in the reinforcement learning and in the synthetic data. Which algorithm it is
was not published ("a novel RLHF method"); ours is DPO, then GRPO.
"""

import dataclasses

from codegemma.align.choices import PolicyChoices
from codegemma.recipes import codegemma_7b_it

_ALIGN = codegemma_7b_it.RECIPE.align

RECIPE = dataclasses.replace(
    codegemma_7b_it.RECIPE,
    name="codegemma_7b_it_1_1",
    align=dataclasses.replace(
        _ALIGN,
        stages=("sft", "dpo", "grpo"),
        policy=PolicyChoices(problems=64, sampling=_ALIGN.policy.sampling, train=codegemma_7b_it.make_stage(500)),
    ),
)
