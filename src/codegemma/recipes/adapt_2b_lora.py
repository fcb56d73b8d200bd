"""Adapt CodeGemma 2B, or another base of published size, to repositories: low-rank adapters on a frozen base.

    codegemma adapt REPO... --base google/codegemma-2b --out my-model
    codegemma adapt REPO... --base google/codegemma-2b --out my-model --set train.lora.base_dtype=int4  # QLoRA
    codegemma adapt REPO... --base google/codegemma-2b --out my-model --set train.lora.rank=none  # the whole model

From the model card and the report (arXiv 2406.11409): the base with its tokenizer and its window of 8,192 tokens, holes
in 80 % of the files, a path line before a file and a separator after it.
Ours, because Google publishes nothing about adapting: adapters at all, their rank and alpha (16 and 32, on all seven
matrices: Biderman et al. 2405.09673 find that those on the feed-forward matter most and that LoRA forgets less than
training all), the rate (2e-4: ten times that of a whole model, as they advise), its course, the batch, 400 steps, no
weight decay, holes where the cut says for a cursor, PSM alone: which SPM the published weights have seen is not
printed, and PSM is what they are asked in (`--set feed.spm_share=0.5` teaches both); the limit of forgetting.
"""

from codegemma.evals.choices import EvalChoices
from codegemma.feed.choices import FeedChoices
from codegemma.model.config import codegemma_2b
from codegemma.recipes import Recipe
from codegemma.train.choices import LoraChoices, TrainChoices

RECIPE = Recipe(
    name="adapt_2b_lora",
    base="google/codegemma-2b",
    model=codegemma_2b(),
    feed=FeedChoices(infill_share=0.8, spm_share=0.0),
    train=TrainChoices(
        # Half the base's window, so that a card of 16 GB holds a row's activations; the model keeps its window.
        batch_rows=4,
        row_tokens=4096,
        steps=400,
        peak_learning_rate=2e-4,
        warmup_steps=20,
        weight_decay=0.0,
        activation_dtype="bfloat16",
        remat="full",
        # 1,024 tokens of 256,000 logits are 1 GB.
        loss_chunk_tokens=1024,
        save_every_steps=100,
        sample_every_steps=100,
        lora=LoraChoices(rank=16, alpha=32.0),
    ),
    # A hole costs a window's tokens: 8,192 of them, not 256. Frozen matrices forget little: a twentieth is suspicious.
    evals=EvalChoices(max_holes_per_kind=150, generated_holes=40, max_general_loss=0.05),
)
