"""What is chosen for tuning: the stages, what an answer is rewarded for, how infilling is kept.

**In**: nothing.
**Out**: `AlignChoices`, with values that suit the shipped base on a CPU.
**Not**: the optimiser and the batch: each stage has its own `TrainChoices`.
"""

from dataclasses import dataclass, field
from typing import Literal

from codegemma.train.choices import TrainChoices

STAGES = ("sft", "best", "dpo", "grpo")


@dataclass(frozen=True, slots=True)
class ExerciseChoices:
    """The family of problems with executable tests (`exercises.py`).

    `problems` are trained on and `heldout` measured on: of compositions that training never has. `demonstrated` of the
    trained ones come with an answer. `careless_share` is how often a demonstration is careless where an operation can
    be written so; the operations that are mostly written so are `mostly_careless` of those.
    """

    problems: int = 6000
    demonstrated: int = 6000
    heldout: int = 1200
    max_operations: int = 3
    tests: int = 8
    audits: int = 8
    mostly_careless: float = 0.65
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that make no family."""
        if min(self.problems, self.heldout, self.max_operations, self.tests, self.audits) < 1:
            raise ValueError("problems, heldout, max_operations, tests and audits are at least 1")
        if self.demonstrated < 0:
            raise ValueError(f"demonstrated is at least 0, got {self.demonstrated}")
        if not 0 <= self.mostly_careless <= 1:
            raise ValueError(f"mostly_careless is a share between 0 and 1, got {self.mostly_careless}")


@dataclass(frozen=True, slots=True)
class RewardChoices:
    """What an answer gets: points for passing all tests, for each test's share, for its form; less for its length.

    `form` is given for an answer that is the asked function and nothing else. Tokens above `free_tokens` cost
    `token_cost` each; an answer that did not end gets nothing but that cost.
    """

    passed: float = 1.0
    share: float = 0.0
    form: float = 0.1
    free_tokens: int = 64
    token_cost: float = 0.002


@dataclass(frozen=True, slots=True)
class SamplingChoices:
    """How answers are written: so many for each problem, at a temperature, up to so many tokens."""

    answers: int = 8
    temperature: float = 1.0
    max_new_tokens: int = 96

    def __post_init__(self) -> None:
        """Refuse a group that cannot be compared within."""
        if self.answers < 2:
            raise ValueError(f"answers of one problem are compared with each other: at least 2, got {self.answers}")
        if self.temperature <= 0 or self.max_new_tokens < 1:
            raise ValueError("temperature and max_new_tokens are above 0")


@dataclass(frozen=True, slots=True)
class PreferenceChoices:
    """DPO: `beta` holds the policy near its start; `problems` are sampled for pairs, at most `pairs_per_problem`."""

    beta: float = 0.1
    label_smoothing: float = 0.0
    problems: int = 3000
    pairs_per_problem: int = 2
    sampling: SamplingChoices = field(default_factory=SamplingChoices)
    train: TrainChoices = field(default_factory=TrainChoices)


@dataclass(frozen=True, slots=True)
class PolicyChoices:
    """GRPO, or REINFORCE with a penalty on divergence as Gemma's.

    A step reads `problems` of them with their answers. `beta` weighs the divergence from the stage's start. `judge`
    says where rewards come from: tests that run, or a reward head trained on the stage's own pairs.
    """

    algorithm: Literal["grpo", "reinforce"] = "grpo"
    judge: Literal["tests", "head"] = "tests"
    problems: int = 32
    sampling: SamplingChoices = field(default_factory=SamplingChoices)
    clip_low: float = 0.2
    clip_high: float = 0.28
    averaging: Literal["answer", "token", "constant"] = "token"
    scaling: Literal["group", "none"] = "group"
    beta: float = 0.01
    reward: RewardChoices = field(default_factory=RewardChoices)
    train: TrainChoices = field(default_factory=TrainChoices)


@dataclass(frozen=True, slots=True)
class AlignChoices:
    """The stages in their order, some of sft, best (of n answers), dpo and grpo.

    `rehearsal_share` of the tokens of instruction tuning are code with holes, and each step of the later stages reads
    `rehearsal_rows` of it, weighed by `rehearsal_weight`: else infilling is forgotten. With `rehearsal_hold` that code
    is not learned but held where the base has it, so strongly (`train/objective.py`). `infill_holes` are measured
    before and after, half of them in a package that nothing rehearsed. `has_control` trains, beside DPO and GRPO, the
    instruction-tuned model further at equal compute. The last `averaged_checkpoints` of instruction tuning are
    averaged.
    """

    stages: tuple[str, ...] = ("sft", "dpo", "grpo")
    exercises: ExerciseChoices = field(default_factory=ExerciseChoices)
    sft: TrainChoices = field(default_factory=TrainChoices)
    preference: PreferenceChoices = field(default_factory=PreferenceChoices)
    policy: PolicyChoices = field(default_factory=PolicyChoices)
    rehearsal_share: float = 0.2
    rehearsal_rows: int = 4
    rehearsal_weight: float = 0.5
    rehearsal_hold: float = 0.0
    has_control: bool = True
    infill_holes: int = 2000
    averaged_checkpoints: int = 1

    def __post_init__(self) -> None:
        """Refuse stages that nobody knows, and shares that are none."""
        if unknown := [stage for stage in self.stages if stage not in STAGES]:
            raise ValueError(f"unknown stages {', '.join(unknown)}; known: {', '.join(STAGES)}")
        if list(self.stages) != sorted(set(self.stages), key=STAGES.index):
            raise ValueError(f"stages come each once, in the order {', '.join(STAGES)}, got {', '.join(self.stages)}")
        if (
            not 0 <= self.rehearsal_share < 1
            or min(self.rehearsal_weight, self.rehearsal_rows, self.rehearsal_hold) < 0
        ):
            raise ValueError("rehearsal_share is at least 0 and below 1; rehearsal_weight, _rows and _hold at least 0")
        if self.averaged_checkpoints < 1:
            raise ValueError(f"averaged_checkpoints is at least 1, the last alone, got {self.averaged_checkpoints}")
        if self.averaged_checkpoints > 1 and self.sft.keep_checkpoints < self.averaged_checkpoints:
            raise ValueError(f"averaged_checkpoints={self.averaged_checkpoints} wants sft.keep_checkpoints as many")
