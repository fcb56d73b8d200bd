"""CodeGemma 7B as published: Gemma 7B, further trained on 500 B tokens, 80 % code and 20 % natural language.

    codegemma plan --model 7b --topology v5e:16x16
    codegemma train --data data --out run --recipe codegemma_7b

What Google did not publish is what `codegemma_2b` chose; less is kept for the gradient, as 7B's layers are larger.
"""

import dataclasses

from codegemma.feed.mixture import MixtureChoices
from codegemma.model.config import codegemma_7b
from codegemma.recipes import codegemma_2b

RECIPE = dataclasses.replace(
    codegemma_2b.RECIPE,
    name="codegemma_7b",
    model=codegemma_7b(),
    feed=dataclasses.replace(codegemma_2b.RECIPE.feed, mixture=MixtureChoices(("code_and_text",))),
    train=dataclasses.replace(codegemma_2b.RECIPE.train, remat="full", loss_chunk_tokens=512),
    base="google/gemma-7b",
)
