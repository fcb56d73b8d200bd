"""CodeGemma 2B as published: Gemma 2B, further trained on 500 B tokens, all of them code.

    codegemma plan --model 2b --topology v5e:16x16
    codegemma build REPO... --out data --recipe codegemma_2b
    codegemma train --data data --out run --recipe codegemma_2b

From the model card and the report (arXiv 2406.11409): the base, 500 B tokens, 100 % code, holes in 80 % of the files,
PSM and SPM half and half, packs of related files, rows of 8,192 tokens.
Ours, because Google did not publish them: the batch (512 rows, 4.2 M tokens), AdamW and its betas, the peak and course
of the learning rate, warm-up, weight decay, clipping, where holes lie and end, the share of files with a path.
"""

from codegemma.feed.choices import FeedChoices
from codegemma.feed.mixture import MixtureChoices
from codegemma.model.config import codegemma_2b
from codegemma.recipes import Recipe
from codegemma.train.choices import TrainChoices

# 500 B tokens in batches of 512 x 8,192.
_STEPS = 119_210

RECIPE = Recipe(
    name="codegemma_2b",
    model=codegemma_2b(),
    feed=FeedChoices(infill_share=0.8, spm_share=0.5, mixture=MixtureChoices(("code",))),
    train=TrainChoices(
        batch_rows=512,
        row_tokens=8192,
        steps=_STEPS,
        peak_learning_rate=5e-5,
        warmup_steps=1000,
        final_lr_share=0.1,
        weight_decay=0.1,
        z_loss=1e-4,
        activation_dtype="bfloat16",
        remat="qkvo",
        loss_chunk_tokens=1024,
        save_every_steps=1000,
        save_every_s=1800.0,
        sample_every_steps=1000,
    ),
    base="google/gemma-2b",
)
