"""The main job: from repositories to a model that knows them, with the proof. Nothing but the sequence.

**In**: `AdaptJob`: repositories, a recipe, a base, minutes.
**Out**: `out/model`, and beside it the data, the runs, the figures and `report.html`.
**Not**: any step itself. Every step keeps what it did, so the same job taken up again goes on where it was.
"""

import json
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from codegemma.build import BuildReport, build_data
from codegemma.corpus.choices import HeldoutBy
from codegemma.corpus.read import read_repository
from codegemma.engine.engine import Engine, read_infill_modes
from codegemma.errors import InputError, OutputError
from codegemma.evals.measure import Measurement, compare, measure
from codegemma.evals.run import RESULTS_FILE, evaluate, read_hole_results
from codegemma.evals.scoring import HoleResult, Subject
from codegemma.feed.loader import RowShape, open_loader
from codegemma.feed.survey import FeedSurvey, survey_feed
from codegemma.files import write_whole
from codegemma.model.weights import describe_model
from codegemma.recipe import fingerprint, to_plain
from codegemma.recipes import Recipe
from codegemma.records import SourceFile, Split
from codegemma.runner import LocalRunner, Progress, ignore_progress
from codegemma.shards import list_parts
from codegemma.text.tokenizer import Tokenizer
from codegemma.train.job import TrainJob, choose_sample, choose_tokenizer
from codegemma.train.loop import OnLine, TrainResult, ignore_line, train
from codegemma.train.plan import estimate

BASES = Path(__file__).parent / "bases"
SUMMARY_FILE = "adapt.json"
HOLES_FILE = "holes-heldout.jsonl"
# What an evaluation was made of: written last and taken away first, so that it never vouches for another's holes.
KEY_FILE = "key.json"
# Packages that come with this one and may stand for "another repository"; neither was the base trained on.
_OTHER_PACKAGES = ("scipy/stats", "jax/_src")
_OTHER_LANGUAGE = "python"
# Text that a plan encodes to learn how many characters a token has here.
_SAMPLED_CHARS = 1_000_000


@dataclass(frozen=True, slots=True)
class AdaptJob:
    """What to adapt to, from what, for how long.

    `base` is a model folder, or `None` to start from random parameters. `other` is the repository of the control run:
    the same base, the same number of steps, other code; `None` leaves it out. `minutes` are those of one training run.
    """

    repos: tuple[Path, ...]
    out: Path
    recipe: Recipe
    base: Path | None
    other: Path | None
    minutes: float | None
    workers: int = 1

    @property
    def model(self) -> Path:
        """Where the adapted model lies."""
        return self.out / "model"

    @property
    def other_out(self) -> Path:
        """Where the control run lies."""
        return self.out / "other"


@dataclass(frozen=True, slots=True)
class AdaptResult:
    """Everything that the ending shows: what was built, trained and measured.

    Every system is asked in the modes that the adapted model learned; `notes` say where one did not learn them.
    """

    job: AdaptJob
    build: BuildReport
    survey: FeedSurvey
    run: TrainResult
    other_run: TrainResult | None
    results: tuple[HoleResult, ...]
    measurements: tuple[Measurement, ...]
    gains: tuple[Measurement, ...]
    notes: tuple[str, ...] = ()


def find_base(name: str) -> Path:
    """Find a base that ships with the package by name, else a model folder.

    Raises:
        InputError: neither; the shipped names are listed.
    """
    if (BASES / name / "config.json").is_file():
        return BASES / name
    if not Path(name).is_dir():
        shipped = ", ".join(sorted(folder.name for folder in BASES.glob("*") if folder.is_dir())) or "none"
        raise InputError(f"no model folder {name!r}, and no base of that name ships with codegemma (it has: {shipped})")
    return Path(name)


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
    """Build, train, train the control, measure; what is done already is kept.

    Raises:
        UserError: any that a step raises; what was finished before it is kept.
    """
    if not job.recipe.corpus.heldout_share:
        raise InputError("corpus.heldout_share is 0: without held-out files there is no proof; set it above 0")
    data = job.out / "data"
    build = build_data(
        job.repos, data, job.recipe, LocalRunner(job.workers), _name_stages(on_progress, ""), exclude=job.out
    )
    if not build.packs.splits[Split.HELDOUT].files_packed:
        raise InputError(
            f"no file is held out of {', '.join(map(str, job.repos))}: without one there is no proof; "
            f"{data / 'report.html'} tells what became of the files, corpus.heldout_share how many to hold out"
        )
    # Before hours of training, not after: a control that cannot be read ends the job here.
    other_data = _build_other(job, on_progress)
    tokenizer = choose_tokenizer(data, job.out, job.base, job.recipe.model.vocab_size)
    survey = _survey(job, data, tokenizer)
    run = train(_train_job(job, data, job.out, tokenizer), _name_stages(on_progress, ""), on_line)
    other_run = None
    if other_data is not None:
        other_job = replace(
            _train_job(job, other_data, job.other_out, tokenizer),
            train=replace(job.recipe.train, steps=run.steps),
            minutes=None,
        )
        other_run = train(other_job, _name_stages(on_progress, "other: "), on_line)
    results, notes = _examine(job, data, other_run, on_progress)
    adapted = [r for r in results if r.system == "adapted"]
    rivals = dict.fromkeys(r.system for r in results if r.system != "adapted")
    gains = [m for rival in rivals for m in compare(adapted, [r for r in results if r.system == rival])]
    result = AdaptResult(
        job, build, survey, run, other_run, tuple(results), tuple(measure(results)), tuple(gains), notes
    )
    _write_summary(result)
    return result


def plan(job: AdaptJob) -> dict[str, object]:
    """Say what the job would take, from a look at the files and a few measured steps; nothing is written.

    Raises:
        InputError: a repository that cannot be used.
    """
    tokenizer = None if job.base is None else Tokenizer.load(job.base)
    chars = files = sampled_chars = sampled_tokens = 0
    for repo in job.repos:
        for found in read_repository(repo, job.recipe.corpus):
            if isinstance(found, SourceFile):
                files += 1
                chars += len(found.text)
                if tokenizer is not None and sampled_chars < _SAMPLED_CHARS:
                    sampled_chars += len(found.text)
                    sampled_tokens += len(tokenizer.encode(found.text))
    chars_per_token = sampled_chars / sampled_tokens if sampled_tokens else job.recipe.pack.chars_per_token
    config = job.recipe.model if job.base is None else describe_model(job.base)
    estimated = estimate(config, job.recipe.train, job.minutes)
    epoch_tokens = round(chars / chars_per_token)
    runs = 1 + (job.other is not None)
    return {
        "files": files,
        "characters": chars,
        "tokens_per_epoch": epoch_tokens,
        "parameters": estimated.parameters,
        "steps": estimated.steps,
        "tokens": estimated.tokens,
        "epochs": round(estimated.tokens / max(epoch_tokens, 1), 2),
        "tokens_per_s": round(estimated.tokens_per_s),
        "training_runs": runs,
        "training_minutes": round(runs * estimated.seconds / 60, 1),
        "memory_MB": round(estimated.memory_bytes / 1e6),
        "device": f"{estimated.device}, {estimated.threads} threads",
    }


def _name_stages(on_progress: Progress, prefix: str) -> Progress:
    def report(stage: str, done: int, total: int | None) -> None:
        on_progress(prefix + stage, done, total)

    return report


def _build_other(job: AdaptJob, on_progress: Progress) -> Path | None:
    """Build the data of the control run. Nobody asks about its held-out files, and it may have no history."""
    if job.other is None:
        return None
    recipe = replace(job.recipe, corpus=replace(job.recipe.corpus, heldout_by=HeldoutBy.DIRECTORY))
    data = job.other_out / "data"
    build_data(
        [job.other], data, recipe, LocalRunner(job.workers), _name_stages(on_progress, "other: "), exclude=job.out
    )
    return data


def _train_job(job: AdaptJob, data: Path, out: Path, tokenizer: Tokenizer) -> TrainJob:
    return TrainJob(
        data=data,
        out=out,
        train=job.recipe.train,
        feed=job.recipe.feed,
        tokenizer=tokenizer,
        config=job.recipe.model,
        base=job.base,
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


def _examine(
    job: AdaptJob, data: Path, other_run: TrainResult | None, on_progress: Progress
) -> tuple[list[HoleResult], tuple[str, ...]]:
    """Put every system before the same holes; a system that was examined already is not asked again."""
    systems: dict[str, Path] = {"adapted": job.model}
    if job.base is not None:
        systems["base"] = job.base
    if other_run is not None:
        systems["other repository"] = job.other_out / "model"
    modes, heldout = read_infill_modes(job.model), data / "packs-heldout.parquet"
    results: list[HoleResult] = []
    notes: list[str] = []
    for name, model in systems.items():
        learned = read_infill_modes(model)
        if unlearned := [mode.upper() for mode in modes if mode not in learned]:
            notes.append(f"{name} never learned {' or '.join(unlearned)}: its figures there are those of a beginner")
        out = job.out / "evaluation" / name.replace(" ", "-")
        # The baselines need no model: they are examined once, beside the adapted one.
        choices = replace(job.recipe.evals, has_baselines=name == "adapted")
        key = fingerprint(choices, modes, [_stamp(model / "model.safetensors"), *map(_stamp, list_parts(heldout))])
        if _read_key(out) != key:
            _forget_key(out)
            engine = Engine.load(model)
            subject = Subject(engine, engine.tokenizer, engine.max_context_tokens, modes)
            label = _name_stages(on_progress, f"{name}: ")
            evaluate(subject, ["heldout"], data=[data], out=out, model=str(model), choices=choices, on_progress=label)
            write_whole(out / KEY_FILE, json.dumps({"key": key}).encode())
        found = read_hole_results(out / HOLES_FILE)
        results += [replace(r, system=name) if r.system == "model" else r for r in found]
    return results, tuple(notes)


def _stamp(file: Path) -> list[str | int]:
    about = file.stat()
    return [str(file), about.st_size, about.st_mtime_ns]


def _forget_key(folder: Path) -> None:
    try:
        (folder / KEY_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from error


def _read_key(folder: Path) -> str | None:
    try:
        key = json.loads((folder / KEY_FILE).read_text(encoding="utf-8"))["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(key) if (folder / RESULTS_FILE).is_file() else None


def _write_summary(result: AdaptResult) -> None:
    """Write `adapt.json`, what a program reads of the ending."""
    plain = summarize(result)
    write_whole(result.job.out / SUMMARY_FILE, (json.dumps(plain, indent=1) + "\n").encode())


def summarize(result: AdaptResult) -> dict[str, object]:
    """Gather the ending as plain data: where the model lies, what was measured, what the gains are."""
    return {
        "model": str(result.job.model),
        "report": str(result.job.out / "report.html"),
        "repos": [str(repo) for repo in result.job.repos],
        "base": None if result.job.base is None else str(result.job.base),
        "other": None if result.job.other is None else str(result.job.other),
        "steps": result.run.steps,
        "tokens": result.run.tokens,
        "seconds": result.run.seconds,
        "measurements": to_plain(result.measurements),
        "gains": to_plain(result.gains),
        "notes": list(result.notes),
    }
