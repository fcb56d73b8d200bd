"""The suites of natural language and mathematics: lm-evaluation-harness runs them on our models, offline or by name.

**In**: an examination; local files of a data set (`language_data.py`), or leave to load it by its name.
**Out**: `Answers`: a `LanguageResult` for each question, shares with intervals.
**Not**: definitions of tasks: prompts, filters and metrics are the harness's (extra `language`), at its version.
"""

import contextlib
import importlib.metadata
import importlib.util
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import xxhash

from codegemma.errors import InputError
from codegemma.evals.bias_tasks import BIAS_TASKS
from codegemma.evals.examination import AbsentError, Answers, Examination, Suite
from codegemma.evals.language_data import find_published, find_split, list_parts, read_table
from codegemma.evals.language_tasks import LANGUAGE_TASKS, LanguageTask
from codegemma.evals.measure import Measurement
from codegemma.evals.statistics import Interval, bootstrap_mean, count_share

# The harness's own seed for the draw of shots, so that its command line draws the same.
SHOT_SEED = 1234
_SHOWN_CHARS = 400
TASKS = LANGUAGE_TASKS | BIAS_TASKS
_EXTRA = "lm-evaluation-harness is not installed: pip install 'codegemma[language]'"


@dataclass(frozen=True, slots=True)
class LanguageResult:
    """How one question was answered. `prompt` is its end; `logprobs` are those of the choices, in their order.

    `text` is what was written where there are no choices. `metrics` are the harness's, by name and filter. `group` is
    what the question counts for besides, such as a kind of bias.
    """

    item_id: str
    task: str
    prompt: str
    target: str
    logprobs: tuple[float, ...] = ()
    text: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    group: str = ""


@dataclass(frozen=True, slots=True)
class LanguageSuite(Suite):
    """A suite whose data are the splits of one data set."""

    def check(self, exam: Examination) -> None:
        """Look for the harness, and for the data.

        Raises:
            AbsentError: one of them is not here.
        """
        if importlib.util.find_spec("lm_eval") is None:
            raise AbsentError(_EXTRA)
        if not exam.choices.online:
            locate(TASKS[self.name], exam.data)


def locate(task: LanguageTask, places: Sequence[Path]) -> dict[str | None, dict[str, list[Path]]]:
    """Find the files of each part of a task (`None` is the whole), by split.

    Raises:
        AbsentError: no file with the questions, or none with the shots.
    """
    parts = list_parts(places, task.name, task.asked) if task.has_parts else [None]
    splits = [task.asked, *([task.shown] if task.shown and task.shots else [])]
    found = {part: {split: find_split(places, task.name, part, split) for split in splits} for part in parts}
    if task.published and not found[None][task.asked]:
        found[None][task.asked] = find_published(places, task.name, task.published)
    lacking = [(part, split) for part, files in found.items() for split in splits if not files[split]]
    if lacking or not found:
        part, split = lacking[0] if lacking else ("SUBJECT" if task.has_parts else None, task.asked)
        name = "/".join(filter(None, (task.name, part, f"{split}*")))
        where = ", ".join(map(str, places)) or "no --data given"
        raise AbsentError(f"no {name} in --data ({where}); wanted files of {task.origin}; --online downloads it")
    return {part: dict(files) for part, files in found.items()}


def run_language(exam: Examination, name: str) -> Answers:
    """Ask the questions of one benchmark."""
    task = TASKS[name]
    with quiet_harness():
        loaded = load_tasks(task, exam)
        asked = choose_questions(loaded, exam.choices.limit)
        from codegemma.evals.language_model import HarnessModel

        model = HarnessModel(exam)
        samples = ask_questions(model, loaded, asked)
    gathered = [result for leaf, rows in samples.items() for result in _gather(leaf, rows, task.column)]
    # What was refused is no wrong answer.
    results = [result for result in gathered if result.item_id not in model.lacking]
    notes = [_describe(task, loaded), *_tell_missing(task, sum(len(o.eval_docs) for o in loaded.values()))]
    if model.shortened:
        notes.append(f"{model.shortened:,} prompts were longer than the window and lost their beginning, shots first")
    rated = "tests of text" if any(r.text is not None for r in results) else "log-probabilities of the choices"
    measured = () if model.lacking else (*_measure(task, results), *_measure_over_all(task, loaded, samples))
    return Answers(
        f"{rated}, by lm-evaluation-harness", len(gathered), results, tuple(notes), measured, lacking=model.lacking
    )


@contextlib.contextmanager
def quiet_harness() -> Iterator[None]:
    """Keep the harness's bars and advice from where ours are shown."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        import datasets
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise AbsentError(_EXTRA) from error
    datasets.disable_progress_bars()
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def load_tasks(task: LanguageTask, exam: Examination) -> dict[str, Any]:
    """Load the harness's tasks, by name, over local files where there are any."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    folder = Path(lm_eval.__file__).parent / "tasks" / task.folder
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    try:
        members = [_override(task, part, files) for part, files in locate(task, exam.data).items()]
    except AbsentError:
        if not exam.choices.online:
            raise
        parts = (name for name in manager.all_subtasks if name.startswith("mmlu_")) if task.part_form else ()
        members = [
            {"task": name} for name in (*(parts or task.parts.values()), *([] if task.has_parts else [task.task]))
        ]
    unknown = [member["task"] for member in members if member["task"] not in manager.all_subtasks]
    if unknown:
        raise InputError(f"{task.name} has no part {unknown[0]!r}; known: {', '.join(manager.all_subtasks)}")
    loaded: dict[str, Any] = manager.load([{"group": "codegemma", "task": members}])["tasks"]
    for found in loaded.values():
        found.set_config(key="num_fewshot", value=task.shots)
        found.set_fewshot_seed(seed=SHOT_SEED)
    return loaded


def _override(task: LanguageTask, part: str | None, files: Mapping[str, list[Path]]) -> dict[str, Any]:
    """Name a task of the harness and put local files in the place of its data set."""

    def read(**_: Any) -> dict[str, Any]:
        import datasets

        return {
            split: datasets.Dataset(read_table(paths, task.columns, task.published)) for split, paths in files.items()
        }

    # A split that is not there is not asked for: without shots nobody needs the training side.
    named = {"training_split": "train", "validation_split": "validation", "test_split": "test"}
    splits = {key: split if split in files else None for key, split in named.items()}
    return {"task": task.name_task(part), "custom_dataset": read, "dataset_kwargs": None, **splits}


def choose_questions(loaded: Mapping[str, Any], limit: int | None) -> dict[str, list[int]]:
    """Take at most `limit` questions over all parts, spread by a keyed hash; fewer are among more."""
    all_asked = [(leaf, index) for leaf, found in loaded.items() for index in range(len(found.eval_docs))]
    order = sorted(all_asked, key=lambda at: xxhash.xxh3_64_intdigest(f"{at[0]}:{at[1]}".encode()))
    asked: dict[str, list[int]] = {}
    for leaf, index in sorted(order[:limit]):
        asked.setdefault(leaf, []).append(index)
    return asked


def ask_questions(
    model: Any, loaded: Mapping[str, Any], asked: Mapping[str, list[int]]
) -> dict[str, list[dict[str, Any]]]:
    """Have the harness ask a model of its kind; its samples by task, one for each question and filter.

    Raises:
        AbsentError: the model cannot rate given choices.
    """
    from lm_eval.evaluator import evaluate

    tasks = {leaf: loaded[leaf] for leaf in asked}
    try:
        found = evaluate(model, {"tasks": tasks, "groups": {}, "group_map": {}}, samples=dict(asked), bootstrap_iters=0)
    except NotImplementedError as error:
        raise AbsentError(f"choices are rated by log-probabilities, and {error}") from error
    return {leaf: found["samples"][leaf] for leaf in asked}


def _gather(leaf: str, rows: Sequence[Mapping[str, Any]], column: str | None) -> Iterator[LanguageResult]:
    """Join what the filters made of one question."""
    by_item: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_item.setdefault(row["doc_id"], []).append(row)
    for number, found in sorted(by_item.items()):
        first = found[0]
        responses = [answers[0] for answers in first["resps"]]
        are_rated = not isinstance(responses[0], str)
        yield LanguageResult(
            item_id=f"{leaf}:{number}",
            task=leaf,
            prompt=str(first["arguments"][0][0])[-_SHOWN_CHARS:],
            target=str(first["target"]),
            logprobs=tuple(float(logprob) for logprob, _ in responses) if are_rated else (),
            text=None if are_rated else responses[0],
            metrics={
                name if row["filter"] in ("none", "remove_whitespace") else f"{name}, {row['filter']}": float(row[name])
                for row in found
                for name in row["metrics"]
                # Others are parts of a figure over all questions.
                if not isinstance(row[name], tuple)
            },
            group="" if column is None else str(first["doc"][column]),
        )


def _measure(task: LanguageTask, results: Sequence[LanguageResult]) -> tuple[Measurement, ...]:
    """Average over all questions: of many subjects, large ones count more, as in the published figures."""
    measurements = []
    for metric in task.metrics:
        system = "model" if metric == task.metrics[0] else f"model, {metric}"
        interval = _average([result.metrics[metric] for result in results])
        measurements.append(Measurement(system, task.name, None, task.figure, "share", interval))
    for group in sorted({result.group for result in results} if task.column else ()):
        interval = _average([result.metrics[task.metrics[0]] for result in results if result.group == group])
        measurements.append(Measurement(f"model, {group}", task.name, None, task.figure, "share", interval))
    return tuple(measurements)


def _measure_over_all(
    task: LanguageTask, loaded: Mapping[str, Any], samples: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Iterator[Measurement]:
    """Take the figures that are no mean over questions, as the harness does; without an interval."""
    for leaf, rows in samples.items():
        for name in task.over_all:
            value = float(loaded[leaf].aggregation()[name]([row[name] for row in rows]))
            if not math.isnan(value):
                interval = Interval(value, None, None, len(rows), len(rows))
                yield Measurement("model", task.name, None, name, "score", interval)


def _average(values: Sequence[float]) -> Interval:
    if all(value in (0.0, 1.0) for value in values):
        return count_share(int(sum(values)), len(values))
    return bootstrap_mean(values, range(len(values)), seed=0)


def _describe(task: LanguageTask, loaded: Mapping[str, Any]) -> str:
    version = importlib.metadata.version("lm_eval")
    versions = sorted({str(found.VERSION) for found in loaded.values()})
    shots = f"{task.shots} shots" + (f", drawn with seed {SHOT_SEED}" if task.shots and task.shown == "train" else "")
    return (
        f"{task.title}: {shots}; by {task.metrics[0]}; task {task.task} {'/'.join(versions)} of lm-evaluation-harness "
        f"{version}; one <bos> before each prompt"
    )


def _tell_missing(task: LanguageTask, found: int) -> list[str]:
    if found in task.counts:
        return []
    counts = " or ".join(f"{count:,}" for count in task.counts)
    return [f"{found:,} questions in the files, where {counts} were published: not the whole benchmark"]


def _make(task: LanguageTask) -> LanguageSuite:
    run: Callable[[Examination], Answers] = partial(run_language, name=task.name)
    return LanguageSuite(task.name, f"{task.title}, {task.shots} shots (extra language)", run)


LANGUAGE_SUITES = tuple(map(_make, LANGUAGE_TASKS.values()))
BIAS_SUITES = tuple(map(_make, BIAS_TASKS.values()))
