"""The nine benchmarks of natural language and mathematics on the card: which task of the harness, how many shots.

**In**: nothing.
**Out**: `LANGUAGE_TASKS`.
**Not**: prompts and metrics: they are lm-evaluation-harness's own.

The card shows most of these as bars without figures. Shots are those of the Gemma report (2403.08295, table 6); it does
not say ARC's, and its figure for 7B, 53.2, is far from the 61.9 that others measured with 25.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

# A subject of MATH, as its folder is named on the hub -> the harness's task.
_MATH = {
    "algebra": "minerva_math_algebra",
    "counting_and_probability": "minerva_math_counting_and_prob",
    "geometry": "minerva_math_geometry",
    "intermediate_algebra": "minerva_math_intermediate_algebra",
    "number_theory": "minerva_math_num_theory",
    "prealgebra": "minerva_math_prealgebra",
    "precalculus": "minerva_math_precalc",
}


@dataclass(frozen=True, slots=True)
class LanguageTask:
    """One benchmark. `folder` is where the harness keeps the definition, `origin` where the data is published.

    The first of `metrics` is the headline. `asked` and `shown` are the splits of the questions and of the shots; the
    shots of MATH are the harness's own. `parts` are its subjects, by their tasks; those of MMLU are 57 and of one form.
    `items` is how many questions were published, or how many in each of several editions.

    `figure` is what the headline is called. Questions are counted by the values of `column` too. `published` are files
    as the authors put them out, where those differ from the hub's (`published_rows.py`). `over_all` are figures that
    the harness takes of all questions together.
    """

    name: str
    title: str
    task: str
    folder: str
    origin: str
    asked: str
    shown: str | None
    shots: int
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    items: int | tuple[int, ...]
    parts: Mapping[str, str] = field(default_factory=dict)
    part_form: str | None = None
    figure: str = "answered_right"
    column: str | None = None
    published: tuple[str, ...] = ()
    over_all: tuple[str, ...] = ()

    @property
    def counts(self) -> tuple[int, ...]:
        """List how many questions the editions have."""
        return (self.items,) if isinstance(self.items, int) else self.items

    @property
    def has_parts(self) -> bool:
        """Tell whether it is divided by subject."""
        return bool(self.parts) or self.part_form is not None

    def name_task(self, part: str | None) -> str:
        """Name the harness's task of a subject, or the only one.

        >>> LANGUAGE_TASKS["mmlu"].name_task("anatomy"), LANGUAGE_TASKS["boolq"].name_task(None)
        ('mmlu_anatomy', 'boolq')
        """
        if part is None:
            return self.task
        return self.parts.get(part) or (self.part_form or "{}").format(part)


_BOTH = ("acc_norm", "acc")

LANGUAGE_TASKS: dict[str, LanguageTask] = {
    task.name: task
    for task in (
        LanguageTask(
            "boolq", "BoolQ", "boolq", "super_glue/boolq", "aps/super_glue, boolq", "validation", "train", 0,
            ("passage", "question", "label"), ("acc",), 3270,
        ),
        LanguageTask(
            "piqa", "PIQA", "piqa", "piqa", "baber/piqa", "validation", "train", 0,
            ("goal", "sol1", "sol2", "label"), ("acc", "acc_norm"), 1838,
        ),
        LanguageTask(
            "triviaqa", "TriviaQA", "triviaqa", "triviaqa", "mandarjoshi/trivia_qa, rc.nocontext", "validation",
            "train", 5, ("question", "answer"), ("exact_match",), 17944,
        ),
        LanguageTask(
            "arc-challenge", "ARC-Challenge", "arc_challenge", "arc", "allenai/ai2_arc, ARC-Challenge", "test", "train",
            0, ("question", "choices", "answerKey"), _BOTH, 1172,
        ),
        LanguageTask(
            "hellaswag", "HellaSwag", "hellaswag", "hellaswag", "Rowan/hellaswag", "validation", "train", 0,
            ("ctx_a", "ctx_b", "activity_label", "endings", "label"), _BOTH, 10042,
        ),
        LanguageTask(
            "mmlu", "MMLU", "mmlu", "mmlu/default", "cais/mmlu", "test", "dev", 5,
            ("question", "choices", "answer"), ("acc",), 14042, part_form="mmlu_{}",
        ),
        LanguageTask(
            "winogrande", "WinoGrande", "winogrande", "winogrande", "allenai/winogrande, winogrande_xl", "validation",
            "train", 0, ("sentence", "option1", "option2", "answer"), ("acc",), 1267,
        ),
        LanguageTask(
            "gsm8k", "GSM8K", "gsm8k", "gsm8k", "openai/gsm8k, main", "test", "train", 5,
            ("question", "answer"), ("exact_match, strict-match", "exact_match, flexible-extract"), 1319,
        ),
        LanguageTask(
            "math", "MATH", "minerva_math", "minerva_math", "EleutherAI/hendrycks_math", "test", None, 4,
            ("problem", "solution"), ("exact_match", "math_verify"), 5000, parts=_MATH,
        ),
    )
}  # fmt: skip
