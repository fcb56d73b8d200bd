"""The choices of an evaluation: how many holes, how they are cut, how much is generated.

**In**: nothing.
**Out**: `EvalChoices`, the `evals` group of a recipe.
**Not**: what is examined, or on which suites.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EvalChoices:
    """Every figure of a report depends on these; they are written beside it."""

    # Of each kind. 2,000 holes in 60 files give an exact match of 10 % an interval of about 2 points to each side.
    max_holes_per_kind: int = 2000
    # Holes are dealt one file at a time, so this only matters where files are few.
    max_holes_per_file: int = 100
    # A shorter middle is guessed rather than known: a bracket, a colon.
    min_middle_chars: int = 3
    # A longer line is data or prose, and its tokens alone would fill a small model's window.
    max_middle_chars: int = 120
    # Holes that are also generated, half of each kind: slow, and needed for edit similarity only.
    generated_holes: int = 200
    # Tokens of the window kept free for the middle, the same for every hole, so that its length does not leak.
    reserved_tokens: int = 64
    # The card's figure for infilling benchmarks (CodeGemma report, section on inference speed).
    max_new_tokens: int = 128
    # Training text that the baselines may see; both keep all of it in memory (about 150 bytes for each).
    max_baseline_bytes: int = 8_000_000
    # Files of each source kind and side of the border whose passages are asked for; the Gemma report has 10,000.
    memorized_files: int = 500
    # Whether the suite `heldout` also runs the n-gram and the retrieval baseline.
    has_baselines: bool = True
    # At most this many holes (both kinds together) or tasks a suite; a shorter run uses the first ones of a longer run.
    limit: int | None = None
    # Of each problem that is answered by a program. One, written greedily, is how the card was measured.
    samples: int = 1
    temperature: float = 0.0
    top_p: float | None = None
    # Ask in turns of a conversation what can be asked so: for models that were tuned to converse.
    is_chat: bool = False
    # Ask the infilling sets a second time as files with a name, in the path line before the prefix; the card is silent.
    has_path_line: bool = False
    # Run programs without a box, where the machine has none.
    unsafe: bool = False
    # Download the data sets of the language suites that are not among the given folders.
    online: bool = False
    # Characters of held-out files, and of general code, that are read whole before and after; 0 leaves general out.
    general_chars: int = 60_000
    # By which share the loss on general code may grow; none allows any. The shipped base, two million parameters,
    # loses 7 to 8 % in two minutes of other code (the demo's control run in the README), and more in half an hour.
    max_general_loss: float | None = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that leave nothing to ask for."""
        for name in (
            "max_holes_per_kind",
            "max_holes_per_file",
            "min_middle_chars",
            "reserved_tokens",
            "max_new_tokens",
            "samples",
            "memorized_files",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, got {getattr(self, name)}")
        if self.max_middle_chars < self.min_middle_chars:
            raise ValueError(f"max_middle_chars={self.max_middle_chars} is below min_middle_chars")
        if self.general_chars < 0 or (self.max_general_loss is not None and self.max_general_loss < 0):
            raise ValueError("general_chars and max_general_loss are at least 0, or max_general_loss none")
        if self.generated_holes < 0 or self.max_baseline_bytes < 0 or (self.limit is not None and self.limit < 1):
            raise ValueError("generated_holes and max_baseline_bytes are at least 0, limit at least 1 or none")
        if not self.temperature >= 0 or not (self.top_p is None or 0 < self.top_p <= 1):
            raise ValueError(f"temperature is at least 0 and top_p in (0, 1], got {self.temperature} and {self.top_p}")
