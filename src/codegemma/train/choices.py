"""What is chosen for a training run.

**In**: nothing.
**Out**: `TrainChoices`, with values that suit a tiny model on a CPU.
**Not**: the model's shape and the data: they have their own choices.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class TrainChoices:
    """The optimiser, the batch, and how often the run tells and saves.

    `row_tokens` is the context. `steps=None` leaves the number to `--minutes`. `compute_dtype` is that of the operands
    of matrix products; they add up in float32, and parameters and optimiser state are float32.
    `final_lr_share` is the share of the peak that the learning rate falls to, linearly. `loss_chunk_tokens` bounds the
    tokens whose logits exist at the same time. `z_loss` weighs the squared log-normaliser (PaLM, section 5).
    """

    batch_rows: int = 16
    row_tokens: int = 256
    steps: int | None = None
    peak_learning_rate: float = 4e-3
    warmup_steps: int = 40
    final_lr_share: float = 0.0
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    adam_epsilon: float = 1e-8
    clip_norm: float = 1.0
    z_loss: float = 0.0
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    remat: Literal["none", "layer"] = "none"
    loss_chunk_tokens: int = 4096
    seed: int = 0
    save_every_steps: int = 500
    log_every_steps: int = 10
    sample_every_steps: int = 200
    keep_checkpoints: int = 2
    allow_thread_change: bool = False
