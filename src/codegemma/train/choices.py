"""What is chosen for a training run, and for the rounds of runs that follow a repository.

**In**: nothing.
**Out**: `TrainChoices`, with values that suit a tiny model on a CPU; `LoraChoices`; `RoundChoices`.
**Not**: the model's shape and the data: they have their own choices.
"""

from dataclasses import dataclass, field
from typing import Literal

from codegemma.model.formats.peft import TARGETS


@dataclass(frozen=True, slots=True)
class LoraChoices:
    """Whether adapters are trained in the place of the model, and which; `rank=None` trains the model itself.

    What an adapter adds is weighed by `alpha` over `rank`. `targets` are some of q, k, v, o, gate, up and down.
    `dropout` leaves that share of an adapter's inputs out of each step. `base_dtype` is that of the frozen matrices in
    memory: `stored` takes them as their files have them, integers too; int8 and int4 round them when they are loaded
    (QLoRA, Dettmers et al. 2305.14314), the embedding apart.
    """

    rank: int | None = None
    alpha: float = 32.0
    targets: tuple[str, ...] = TARGETS
    dropout: float = 0.0
    base_dtype: Literal["stored", "float32", "bfloat16", "int8", "int4"] = "stored"

    @property
    def scale(self) -> float:
        """What the product of an adapter's matrices is multiplied by."""
        return self.alpha / (self.rank or 1)

    def __post_init__(self) -> None:
        """Refuse adapters that cannot be."""
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank is at least 1, or none to train the whole model, got {self.rank}")
        if unknown := [target for target in self.targets if target not in TARGETS]:
            raise ValueError(f"unknown targets {', '.join(unknown)}; known: {', '.join(TARGETS)}")
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets are some of {', '.join(TARGETS)}, each once, got {self.targets}")
        if not 0 <= self.dropout < 1 or self.alpha <= 0:
            raise ValueError(f"dropout is at least 0 and below 1, alpha above 0, got {self.dropout} and {self.alpha}")


@dataclass(frozen=True, slots=True)
class TrainChoices:
    """The optimiser, the batch, and how often the run tells and saves.

    The model's window is `row_tokens` less `margin_tokens`: the last tokens of a row are always near an end, and where
    rows are short a model would learn to end by position there (`docs/lab_log.md`). `steps=None` leaves the number to
    `--minutes`. `compute_dtype` is that of the operands of matrix products; they add up in float32, and parameters and
    optimiser state are float32. `activation_dtype` is that of what stands between products: bfloat16 halves what deep
    models keep. `remat` says what a layer keeps for the gradient (`model/execution.py`), `attention` which kernel reads
    rows: `auto` takes what the device has. `mesh` lays the devices out along data, fsdp and tensor, -1 for what is left
    (`model/sharding.py`). `final_lr_share` is the share of the peak that the learning rate falls to, linearly.
    `loss_chunk_tokens` bounds the tokens whose logits exist at the same time. `z_loss` weighs the squared
    log-normaliser (PaLM, section 5).
    A checkpoint is due when either of `save_every_steps` and `save_every_s` has passed. `save_dtype` is that of the
    finished model. `wandb_project` shows the run on Weights & Biases as well, under that project; by default nothing is
    sent anywhere. `allow_thread_change` lets a run go on with another number of threads, though sums then round
    differently. `lora` trains adapters beside a frozen base (`model/lora.py`). A step whose loss is more than
    `max_loss_ratio` times the usual one, or whose gradient's norm more than `max_norm_ratio` times, or that has no
    finite ones, changes nothing (`train/divergence.py`); `on_divergence` says whether the run then stops or goes on
    with the next batch, and after how many such steps in a row it stops all the same (`max_bad_steps`).
    """

    batch_rows: int = 16
    row_tokens: int = 256
    margin_tokens: int = 0
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
    activation_dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "full", "qkvo", "offload"] = "none"
    attention: Literal["auto", "xla", "splash", "cudnn"] = "auto"
    mesh: tuple[int, int, int] = (1, -1, 1)
    loss_chunk_tokens: int = 4096
    seed: int = 0
    save_every_steps: int = 500
    save_every_s: float = 120.0
    save_dtype: Literal["bfloat16", "float32"] = "bfloat16"
    log_every_steps: int = 10
    sample_every_steps: int = 200
    keep_checkpoints: int = 2
    wandb_project: str | None = None
    allow_thread_change: bool = False
    lora: LoraChoices = field(default_factory=LoraChoices)
    on_divergence: Literal["skip", "stop"] = "skip"
    max_loss_ratio: float = 3.0
    max_norm_ratio: float = 20.0
    max_bad_steps: int = 5

    @property
    def window_tokens(self) -> int:
        """The window that the rows teach."""
        return self.row_tokens - self.margin_tokens

    def __post_init__(self) -> None:
        """Refuse values that no run can have."""
        counts = ("batch_rows", "row_tokens", "save_every_steps", "log_every_steps", "sample_every_steps",
                  "keep_checkpoints", "loss_chunk_tokens", "max_bad_steps")  # fmt: skip
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, got {getattr(self, name)}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps is at least 1, or none where --minutes decides, got {self.steps}")
        if not 0 <= self.margin_tokens < self.row_tokens:
            raise ValueError(
                f"margin_tokens is at least 0 and below row_tokens={self.row_tokens}, got {self.margin_tokens}; "
                "for shorter rows lower the margin first"
            )
        if self.warmup_steps < 0 or self.save_every_s <= 0 or self.clip_norm <= 0:
            raise ValueError("warmup_steps is at least 0; save_every_s and clip_norm are above 0")
        if min(self.max_loss_ratio, self.max_norm_ratio) <= 1:
            raise ValueError("max_loss_ratio and max_norm_ratio are above 1: a step as usual is no spike")


@dataclass(frozen=True, slots=True)
class RoundChoices:
    """What a further round on a changed repository trains on, beside the packs that changed."""

    # The share of a round's characters that is drawn from packs without a change, so that what they taught is not
    # forgotten. Ibrahim et al. (2403.08763), who warm the rate up again as a round here does, replay at most a quarter,
    # of corpora without end. A repository has few packs and a round few steps: with a quarter, the tiny recipe lost
    # 0.03 to 0.05 bits a byte on held-out code, with half of it nothing (`benchmarks/rounds.py`).
    rehearsal_share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a share that leaves no room for what changed."""
        if not 0 <= self.rehearsal_share < 1:
            raise ValueError(f"rehearsal_share is at least 0 and below 1, got {self.rehearsal_share}")
