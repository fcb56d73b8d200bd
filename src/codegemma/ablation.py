"""Which cuts, orders and packs teach most in the same tokens: small trainings that differ in one choice.

**In**: `AblationJob`: repositories, a recipe, which variants, how many seeds.
**Out**: `out/data/ORDER`, `out/runs/VARIANT-SEED`, `out/scores/`; `ablation.json`: each variant beside the reference.
**Not**: a law. A small model after few tokens tells what is learned first; the table says how many there were.

Every step keeps what it did: the same command taken up again goes on where it was. All runs have the tokenizer of the
reference, the same number of steps and rows, and are asked for the same holes of held-out files.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegemma.ablation_score import ScoreRow, compare_runs, score_run
from codegemma.build import build_data
from codegemma.corpus.inputs import Input
from codegemma.errors import InputError
from codegemma.files import write_whole
from codegemma.folders import hold_folder
from codegemma.pack.choices import PackOrder
from codegemma.recipe import to_plain
from codegemma.recipes import Recipe
from codegemma.records import InfillMode, Split
from codegemma.runner import LocalRunner, Progress, ignore_progress, prefix_stages
from codegemma.text.tokenizer import Tokenizer
from codegemma.train.job import TrainJob, choose_tokenizer
from codegemma.train.loop import OnLine, ignore_line, read_result, train

TABLE_FILE = "ablation.json"
DEFAULT_SEEDS = 3


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to learn: the choices of the feed that it sets, and the order of its packs.

    `setting` is the choice of a recipe in which it differs from the reference, and so from the project's default.
    """

    name: str
    about: str
    setting: str = ""
    order: PackOrder = PackOrder.GROUPED
    feed: Mapping[str, Any] = field(default_factory=dict)


_COMMON: Mapping[str, Any] = {"natural_share": 0.9, "spm_mode": InfillMode.SPM, "path_share": 0.9}
_ORDER = "pack.order"
REFERENCE = Variant("reference", "natural cuts, SPM variant 2, paths dropped from a tenth of files, grouped packs")
_DEFAULTS = Variant(REFERENCE.name, REFERENCE.about, feed=_COMMON)
VARIANTS = {
    variant.name: variant
    for variant in (
        REFERENCE,
        Variant("raw-cuts", "suffixes begin anywhere", "feed.natural_share", feed={"natural_share": 0.0}),
        Variant(
            "spm1",
            "SPM variant 1: a sentinel where the middle begins",
            "feed.spm_mode",
            feed={"spm_mode": InfillMode.SPM1},
        ),
        Variant("all-paths", "every file has its path", "feed.path_share", feed={"path_share": 1.0}),
        Variant("report-order", "packs cut from the report's one order", _ORDER, PackOrder.CODEGEMMA),
        Variant("alphabetical", "packs cut from the order of names", _ORDER, PackOrder.ALPHABETICAL),
        Variant("random", "packs cut from a shuffled order", _ORDER, PackOrder.RANDOM),
    )
}


@dataclass(frozen=True, slots=True)
class AblationJob:
    """What to learn from, in which ways, and how often each; `recipe.train.steps` says how long."""

    repos: tuple[Path | Input, ...]
    out: Path
    recipe: Recipe
    variants: tuple[Variant, ...] = tuple(VARIANTS.values())
    seeds: int = DEFAULT_SEEDS
    workers: int = 1

    @property
    def tokens(self) -> int:
        """Tokens that each run reads, padding included."""
        train = self.recipe.train
        return (train.steps or 0) * train.batch_rows * train.row_tokens


@dataclass(frozen=True, slots=True)
class Support:
    """What the rows of one variant say of a default: how many favour it, how many the variant, how many neither."""

    variant: str
    setting: str
    default: str
    other: str
    for_default: int
    for_variant: int
    undecided: int


@dataclass(frozen=True, slots=True)
class AblationTable:
    """What came out: rows beside the reference, and which default each supports; `tokens` are those of one run."""

    seeds: int
    tokens: int
    holes: dict[str, int]
    rows: tuple[ScoreRow, ...]
    supports: tuple[Support, ...] = ()


def list_supports(variants: Sequence[Variant], rows: Sequence[ScoreRow]) -> tuple[Support, ...]:
    """Count, for each variant, the rows whose interval leaves 0 out, by whom they favour."""
    supports = []
    for variant in variants:
        votes = [row.favours_variant for row in rows if row.variant == variant.name]
        if not votes:
            continue
        name = variant.setting.partition(".")[2]
        default, other = (str(one.feed.get(name, one.order)) for one in (_DEFAULTS, variant))
        counts = votes.count(False), votes.count(True), votes.count(None)
        supports.append(Support(variant.name, variant.setting, default, other, *counts))
    return tuple(supports)


def choose_variants(names: Sequence[str]) -> tuple[Variant, ...]:
    """Find variants by name, the reference with them; all where none is named.

    Raises:
        InputError: an unknown one; the message lists the known.
    """
    if unknown := [name for name in names if name not in VARIANTS]:
        raise InputError(f"unknown variant {unknown[0]!r}; known: {', '.join(VARIANTS)}")
    return tuple(v for v in VARIANTS.values() if not names or v.name in names or v is REFERENCE)


def ablate(job: AblationJob, on_progress: Progress = ignore_progress, on_line: OnLine = ignore_line) -> AblationTable:
    """Build, train and score every variant with every seed; what is done already is kept.

    Raises:
        InputError: no steps, no held-out file, or a repository that cannot be used.
        OutputError: `out` cannot be written, or holds runs of other choices.
    """
    if not job.recipe.train.steps or job.seeds < 1:
        raise InputError("each run reads the same tokens: give a number of steps and at least one seed")
    with hold_folder(job.out):
        data = {order: _build(job, order, on_progress) for order in {REFERENCE.order, *(v.order for v in job.variants)}}
        tokenizer = choose_tokenizer(
            data[REFERENCE.order], locate_run(job.out, REFERENCE.name, 0), None, job.recipe.model.vocab_size
        )
        found: dict[str, list[Path]] = {}
        # Seed by seed: what is there after a kill compares all variants.
        for seed in range(job.seeds):
            for variant in job.variants:
                label = prefix_stages(on_progress, f"{variant.name}, seed {seed}: ")
                asked = _make_run(job, variant, seed, data[variant.order], tokenizer)
                run = read_result(asked.out) or train(asked, label, on_line)
                scored = score_run(run.model, data[REFERENCE.order], job.out / "scores", job.recipe.evals, label)
                found.setdefault(variant.name, []).append(scored)
        rows, holes = compare_runs(found, REFERENCE.name)
        table = AblationTable(job.seeds, job.tokens, holes, tuple(rows), list_supports(job.variants, rows))
        write_whole(job.out / TABLE_FILE, (json.dumps(to_plain(table), indent=1) + "\n").encode())
    return table


def _build(job: AblationJob, order: PackOrder, on_progress: Progress) -> Path:
    out = job.out / "data" / order.value
    recipe = dataclasses.replace(job.recipe, pack=dataclasses.replace(job.recipe.pack, order=order))
    label = prefix_stages(on_progress, f"{order.value}: ")
    built = build_data(job.repos, out, recipe, LocalRunner(job.workers), label, exclude=job.out)
    if not built.packs.splits[Split.HELDOUT].files_packed:
        raise InputError("no file is held out: without one nothing can be compared; raise corpus.heldout_share")
    return out


def _make_run(job: AblationJob, variant: Variant, seed: int, data: Path, tokenizer: Tokenizer) -> TrainJob:
    feed = dataclasses.replace(job.recipe.feed, **{**_COMMON, **variant.feed})
    recipe = dataclasses.replace(job.recipe, feed=feed, train=dataclasses.replace(job.recipe.train, seed=seed))
    return TrainJob(
        data=data,
        out=locate_run(job.out, variant.name, seed),
        train=recipe.train,
        feed=feed,
        tokenizer=tokenizer,
        config=recipe.model,
        recipe=to_plain(recipe),
    )


def locate_run(out: Path, variant: str, seed: int) -> Path:
    """Name the folder of a run in the folder of its ablation."""
    return out / "runs" / f"{variant}-{seed}"
