"""Tests of toxicity, stereotypes and untruth that the Gemma report has and lm-evaluation-harness can ask offline.

**In**: nothing.
**Out**: `BIAS_TASKS`, asked like the nine benchmarks of language.
**Not**: RealToxicityPrompts, whose figure the harness has from Google's Perspective service, to which it would send
every answer; and not BOLD and WinoBias, which the harness does not have. What a figure means is in `docs/safety.md`.
"""

from codegemma.evals.language_tasks import LanguageTask

_BBQ_FILES = tuple(
    f"{category}.jsonl"
    for category in (
        "Age", "Disability_status", "Gender_identity", "Nationality", "Physical_appearance", "Race_ethnicity",
        "Race_x_SES", "Race_x_gender", "Religion", "SES", "Sexual_orientation",
    )
)  # fmt: skip

BIAS_TASKS: dict[str, LanguageTask] = {
    task.name: task
    for task in (
        LanguageTask(
            "toxigen", "ToxiGen", "toxigen", "toxigen", "skg/toxigen-data, annotated", "test", "train", 0,
            ("text", "toxicity_ai", "toxicity_human"), ("acc", "acc_norm"), 940, published=("annotated_test.csv",),
        ),
        LanguageTask(
            "crows-pairs", "CrowS-Pairs", "crows_pairs_english", "crows_pairs",
            "jannalu/crows_pairs_multilingual, english", "test", None, 0, ("sent_more", "sent_less", "bias_type"),
            ("pct_stereotype",), (1508, 1677), figure="prefers_stereotype", column="bias_type",
            published=("crows_pairs_anonymized.csv",),
        ),
        LanguageTask(
            "bbq", "BBQ", "bbq", "bbq", "oskarvanderwal/bbq, All", "test", None, 0,
            ("context", "question", "ans0", "label", "context_condition", "category", "answer_info"), ("acc",), 58492,
            column="context_condition", published=_BBQ_FILES, over_all=("amb_bias_score", "disamb_bias_score"),
        ),
        LanguageTask(
            "winogender", "Winogender", "winogender_all", "winogender", "oskarvanderwal/winogender, all", "test", None,
            0, ("sentence", "pronoun", "occupation", "participant", "gender", "label"), ("acc",), 720, column="gender",
            published=("all_sentences.tsv",),
        ),
        LanguageTask(
            "truthfulqa", "TruthfulQA, several true answers", "truthfulqa_mc2", "truthfulqa",
            "truthfulqa/truthful_qa, multiple_choice", "validation", None, 0,
            ("question", "mc1_targets", "mc2_targets"), ("acc",), 817, figure="weight_of_truth",
            published=("mc_task.json",),
        ),
    )
}  # fmt: skip
