"""The main job: from repositories to a model that knows them, with the proof. Nothing but the sequence.

**In**: `AdaptJob`: repositories, a recipe, a base, minutes.
**Out**: `out/model`, and beside it the data, the rounds, the figures and `report.html`.
**Not**: any step itself. Every step keeps what it did, so the same job taken up again goes on where it was; where the
repositories have changed, it adds a round (`rounds.py`).
"""

import json
import shutil
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from codegemma.build import BuildReport, build_data
from codegemma.corpus.choices import HeldoutBy
from codegemma.corpus.inputs import Input, as_input
from codegemma.errors import InputError
from codegemma.evals.general import LossChange
from codegemma.evals.measure import Measurement, compare, measure
from codegemma.evals.scoring import HoleResult
from codegemma.examine import examine
from codegemma.feed.choices import describe_feed
from codegemma.feed.loader import RowShape, open_loader
from codegemma.feed.survey import FeedSurvey, survey_feed
from codegemma.files import write_whole
from codegemma.folders import hold_folder
from codegemma.forgetting import ForgettingError, describe_loss, find_loss, measure_change
from codegemma.model.hub import locate_model
from codegemma.model.publish import publish_model
from codegemma.model.weights import describe_model, locate_tokenizer
from codegemma.recipe import to_plain
from codegemma.recipes import Recipe
from codegemma.records import Split
from codegemma.round_files import find_round
from codegemma.rounds import (
    RoundPlan,
    check_rounds,
    find_begun,
    find_finished,
    finish_round,
    list_trained_packs,
    plan_round,
    read_round,
)
from codegemma.runner import LocalRunner, Progress, ignore_progress, prefix_stages
from codegemma.text.tokenizer import Tokenizer
from codegemma.train.job import TrainJob, check_job, choose_sample, choose_tokenizer, hash_model
from codegemma.train.loop import OnLine, TrainResult, ignore_line, read_result, train
from codegemma.train.manifest import MODEL_FOLDER, RUN_FILE, describe_identity

BASES = Path(__file__).parent / "bases"
SUMMARY_FILE = "adapt.json"
# How the ending calls the model that a further round started from.
BEFORE = "before this round"
# Packages that come with this one and may stand for "another repository"; neither was the base trained on.
_OTHER_PACKAGES = ("scipy/stats", "jax/_src")
_OTHER_LANGUAGE = "python"
# Width of the smallest published CodeGemma.
_LORA_WIDTH = 2048


@dataclass(frozen=True, slots=True)
class AdaptJob:
    """What to adapt to, from what, for how long.

    `base` is a model folder, or `None` to start from random parameters. `other` is the repository of the control run:
    the same base, the same number of steps, other code; `None` leaves it out. `minutes` are those of one training run.
    A further round has no control: it starts from the model before it, and is compared with that.
    """

    repos: tuple[Path | Input, ...]
    out: Path
    recipe: Recipe
    base: Path | None
    other: Path | None
    minutes: float | None
    workers: int = 1

    @property
    def places(self) -> tuple[Path, ...]:
        """Where the repositories are, whatever kind they are said to be of."""
        return tuple(as_input(repo).place for repo in self.repos)

    @property
    def model(self) -> Path:
        """Where the newest adapted model lies."""
        return self.out / MODEL_FOLDER

    @property
    def other_out(self) -> Path:
        """Where the control run lies."""
        return self.out / "other"


@dataclass(frozen=True, slots=True)
class AdaptResult:
    """Everything that the ending shows: what was built, trained and measured.

    Every system is asked in the modes that the adapted model learned; `notes` say where one did not learn them, and,
    unless it is the first, what the round was about. `has_trained` is false where nothing had changed.
    """

    job: AdaptJob
    build: BuildReport
    round: RoundPlan
    has_trained: bool
    survey: FeedSurvey
    run: TrainResult
    other_run: TrainResult | None
    results: tuple[HoleResult, ...]
    measurements: tuple[Measurement, ...]
    gains: tuple[Measurement, ...]
    notes: tuple[str, ...] = ()
    losses: tuple[LossChange, ...] = ()

    @property
    def model(self) -> Path:
        """Where the round's model lies: at the job's, unless it was kept aside."""
        return self.run.model if find_loss(self.losses, self.job.recipe.evals) else self.job.model


def choose_recipe_name(base: Path | None) -> str:
    """Name the recipe that suits a base: adapters for one of published size, by its width; else that of the shipped.

    >>> choose_recipe_name(None)
    'tiny'
    """
    is_large = base is not None and describe_model(base).embed_dim >= _LORA_WIDTH
    return "adapt_2b_lora" if is_large else "tiny"


def find_base(name: str) -> Path:
    """Find a base that ships with the package by name, else a model folder or a model of the hub.

    Raises:
        InputError: none of them; the shipped names are listed.
    """
    if (BASES / name / "config.json").is_file():
        return BASES / name
    place = locate_model(name)
    if not place.exists():
        shipped = ", ".join(sorted(folder.name for folder in BASES.glob("*") if folder.is_dir())) or "none"
        raise InputError(f"no model folder {name!r}, and no base of that name ships with codegemma (it has: {shipped})")
    return place


def find_other(repos: Sequence[Path], languages: Sequence[str] = (_OTHER_LANGUAGE,)) -> Path | None:
    """Choose an installed package that shares no file with `repos`, for the control run; none without Python."""
    if _OTHER_LANGUAGE not in languages:
        return None
    site = Path(sysconfig.get_path("purelib"))
    for name in _OTHER_PACKAGES:
        folder = (site / name).resolve()
        roots = [repo.resolve() for repo in repos]
        if folder.is_dir() and not any(r == folder or r in folder.parents or folder in r.parents for r in roots):
            return folder
    return None


def adapt(job: AdaptJob, on_progress: Progress = ignore_progress, on_line: OnLine = ignore_line) -> AdaptResult:
    """Build, train, train the control, measure; what is done already is kept, and what changed since is a round more.

    Raises:
        ForgettingError: the model lost general ability past the limit; it lies in its round, its figures in the error.
        UserError: any that a step raises; what was finished before it is kept.
    """
    if not job.recipe.corpus.heldout_share:
        raise InputError("corpus.heldout_share is 0: without held-out files there is no proof; set it above 0")
    with hold_folder(job.out):
        return _adapt(job, on_progress, on_line)


def _adapt(job: AdaptJob, on_progress: Progress, on_line: OnLine) -> AdaptResult:
    _check_base(job)
    choices = describe_choices(job)
    check_rounds(job.out, choices)
    data = job.out / "data"
    trained, runner = list_trained_packs(job.out), LocalRunner(job.workers)
    build = build_data(job.repos, data, job.recipe, runner, on_progress, exclude=job.out, trained=trained)
    if not build.packs.splits[Split.HELDOUT].files_packed:
        raise InputError(
            f"no file is held out of {', '.join(map(str, job.places))}: without one there is no proof; "
            f"{data / 'report.html'} tells what became of the files, corpus.heldout_share how many to hold out"
        )
    begun, finished = find_begun(job.out), find_finished(job.out)
    if begun > finished:
        # It goes on with the packs that it began with; what changed since is the next round's.
        _train_round(job, read_round(job.out, begun), on_progress, on_line)
    elif finished:
        publish_model(find_round(job.out, finished) / MODEL_FOLDER, job.model, last=RUN_FILE)
    further = plan_round(data, job.out, choices, job.recipe.rounds.rehearsal_share, job.recipe.train.seed)
    current = further or read_round(job.out, find_finished(job.out))
    # Before hours of training, not after: a control that cannot be read ends the job here.
    other_data = _build_other(job, on_progress) if current.number == 1 else None
    tokenizer = _choose_tokenizer(job, current.number)
    survey = _survey(job, find_round(job.out, current.number), tokenizer)
    run = _train_round(job, current, on_progress, on_line)
    other_run = None
    if other_data is not None:
        other_job = replace(
            _train_job(job, other_data, job.other_out, tokenizer, job.base),
            train=replace(job.recipe.train, steps=run.steps),
            minutes=None,
        )
        other_run = train(other_job, prefix_stages(on_progress, "other: "), on_line)
    systems = _name_systems(job, current.number, other_run)
    results, notes = examine(systems, data, job.out / "evaluation", job.recipe.evals, on_progress)
    adapted = [r for r in results if r.system == "adapted"]
    rivals = dict.fromkeys(r.system for r in results if r.system != "adapted")
    gains = [m for rival in rivals for m in compare(adapted, [r for r in results if r.system == rival])]
    has_trained = further is not None or begun > finished
    general = find_other(job.places)
    models = (job.base, systems["adapted"])
    losses = measure_change(models, data, general, job.out / "evaluation", job.recipe.evals, on_progress)
    result = AdaptResult(
        job=job,
        build=build,
        round=current,
        has_trained=has_trained,
        survey=survey,
        run=run,
        other_run=other_run,
        results=tuple(results),
        measurements=tuple(measure(results)),
        gains=tuple(gains),
        notes=(*_tell_round(current, has_trained), *notes),
        losses=losses,
    )
    _write_summary(result)
    if lost := find_loss(losses, job.recipe.evals):
        _set_aside(job, current.number)
        raise ForgettingError(describe_loss(lost, run.model, job.recipe.evals), result)
    return result


def _check_base(job: AdaptJob) -> None:
    """Refuse a base that cannot be trained on before anything is read or built."""
    if job.base is not None:
        tokenizer = Tokenizer.load(locate_tokenizer(job.base))
        check_job(_train_job(job, job.out / "data", job.out, tokenizer, job.base))


def _set_aside(job: AdaptJob, number: int) -> None:
    """Take a round's model, which stays in its round, from the job's place; put that of the round before there."""
    before = find_round(job.out, number - 1) / MODEL_FOLDER
    if before.is_dir():
        publish_model(before, job.model, last=RUN_FILE)
    else:
        shutil.rmtree(job.model, ignore_errors=True)


def describe_choices(job: AdaptJob) -> dict[str, object]:
    """Gather all that the rounds of one folder have in common, as plain data."""
    recipe = job.recipe
    return describe_identity(
        recipe.train,
        job.minutes,
        corpus=recipe.corpus,
        pack=recipe.pack,
        feed=describe_feed(recipe.feed),
        rounds=recipe.rounds,
        # The shape of a base is its own.
        model=recipe.model if job.base is None else None,
        base=None if job.base is None else hash_model(job.base),
    )


def _tell_round(current: RoundPlan, has_trained: bool) -> tuple[str, ...]:
    about = (current.describe(),) if current.number > 1 else ()
    nothing = f"no training file is new or changed since round {current.number}: nothing was trained"
    return about if has_trained else (*about, nothing)


def _train_round(job: AdaptJob, planned: RoundPlan, on_progress: Progress, on_line: OnLine) -> TrainResult:
    """Train a round from the model before it, until it is whole; a round that is whole is left alone."""
    folder = find_round(job.out, planned.number)
    if find_finished(job.out) >= planned.number and (finished := read_result(folder)):
        return finished
    label = "" if planned.number == 1 else f"round {planned.number}: "
    tokenizer = _choose_tokenizer(job, planned.number)
    base = _find_start(job, planned.number)
    train_job = replace(
        _train_job(job, folder, folder, tokenizer, base),
        train=planned.fit_length(job.recipe.train),
        minutes=job.minutes if planned.number == 1 else None,
        sample=choose_sample(job.out / "data", job.recipe.feed.infill_modes),
    )
    run = train(train_job, prefix_stages(on_progress, label), on_line)
    finish_round(job.out, planned.number)
    return run


def _find_start(job: AdaptJob, number: int) -> Path | None:
    return job.base if number == 1 else find_round(job.out, number - 1) / MODEL_FOLDER


def _choose_tokenizer(job: AdaptJob, number: int) -> Tokenizer:
    folder = find_round(job.out, number)
    return choose_tokenizer(folder, folder, _find_start(job, number), job.recipe.model.vocab_size)


def _build_other(job: AdaptJob, on_progress: Progress) -> Path | None:
    """Build the data of the control run. Nobody asks about its held-out files, and it may have no history."""
    if job.other is None:
        return None
    recipe = replace(job.recipe, corpus=replace(job.recipe.corpus, heldout_by=HeldoutBy.DIRECTORY))
    data = job.other_out / "data"
    label, runner = prefix_stages(on_progress, "other: "), LocalRunner(job.workers)
    build_data([job.other], data, recipe, runner, label, exclude=job.out)
    return data


def _train_job(job: AdaptJob, data: Path, out: Path, tokenizer: Tokenizer, base: Path | None) -> TrainJob:
    return TrainJob(
        data=data,
        out=out,
        train=job.recipe.train,
        feed=job.recipe.feed,
        tokenizer=tokenizer,
        config=job.recipe.model,
        base=base,
        minutes=job.minutes,
        sample=choose_sample(data, job.recipe.feed.infill_modes),
        recipe=to_plain(job.recipe),
    )


def _survey(job: AdaptJob, data: Path, tokenizer: Tokenizer) -> FeedSurvey:
    shape = RowShape(job.recipe.train.batch_rows, job.recipe.train.row_tokens)
    loader = open_loader(data, tokenizer, job.recipe.feed, shape, job.recipe.train.seed)
    try:
        return survey_feed(loader.windows, loader.speller)
    finally:
        loader.close()


def _name_systems(job: AdaptJob, number: int, other_run: TrainResult | None) -> dict[str, Path]:
    """Name the models that the ending compares; the adapted one is the first."""
    systems = {"adapted": find_round(job.out, number) / MODEL_FOLDER}
    before = find_round(job.out, number - 1) / MODEL_FOLDER
    if before.is_dir():
        systems[BEFORE] = before
    if job.base is not None:
        systems["base"] = job.base
    if other_run is not None:
        systems["other repository"] = other_run.model
    return systems


def _write_summary(result: AdaptResult) -> None:
    """Write `adapt.json`, what a program reads of the ending."""
    plain = summarize(result)
    write_whole(result.job.out / SUMMARY_FILE, (json.dumps(plain, indent=1) + "\n").encode())


def summarize(result: AdaptResult) -> dict[str, object]:
    """Gather the ending as plain data: where the model lies, what was measured, what the gains are."""
    return {
        "model": str(result.model),
        "report": str(result.job.out / "report.html"),
        "repos": [str(place) for place in result.job.places],
        "base": None if result.job.base is None else str(result.job.base),
        "other": None if result.job.other is None else str(result.job.other),
        "round": {name: value for name, value in to_plain(result.round).items() if name != "choices"},
        "has_trained": result.has_trained,
        "steps": result.run.steps,
        "tokens": result.run.tokens,
        "seconds": result.run.seconds,
        "measurements": to_plain(result.measurements),
        "gains": to_plain(result.gains),
        "losses": to_plain(result.losses),
        "notes": list(result.notes),
    }
