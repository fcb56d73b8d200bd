"""CodeGemma 2B 1.1 as published: as 2B, on 1 T tokens, with holes in 90 % of the files.

    codegemma plan --model 2b --topology v5e:16x16
    codegemma train --data data --out run --recipe codegemma_2b_1_1

What Google did not publish is what `codegemma_2b` chose.
"""

import dataclasses

from codegemma.recipes import codegemma_2b

RECIPE = dataclasses.replace(
    codegemma_2b.RECIPE,
    name="codegemma_2b_1_1",
    feed=dataclasses.replace(codegemma_2b.RECIPE.feed, infill_share=0.9),
    # 1 T tokens.
    train=dataclasses.replace(codegemma_2b.RECIPE.train, steps=238_419),
)
