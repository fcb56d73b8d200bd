"""A model's card: every section of CodeGemma's, written from what is on disk, and "not measured" where nothing is.

**In**: a model folder with its run and lineage; the data folder that it learned from; results of evaluations.
**Out**: Markdown.
**Not**: claims. What no manifest, recipe or result shows is not said.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegemma.corpus import report as corpus_report
from codegemma.corpus.report import CorpusReport
from codegemma.errors import InputError
from codegemma.evals.card import fill_card, read_published, spell_card
from codegemma.evals.measure import Measurement
from codegemma.evals.results import Results
from codegemma.evals.safety_card import SAFETY_SUITES, write_limits, write_safety
from codegemma.evals.summary import list_headlines
from codegemma.model.lineage import LINEAGE_FILE
from codegemma.model.weights import describe_model
from codegemma.rating.summary import Summary, spell_summary
from codegemma.train.manifest import RUN_FILE

CARD_FILE = "README.md"
NOT_MEASURED = "Not measured."
_SHOWN_LICENSES = 12


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a model. Empty mappings and `None` where a file is not there."""

    name: str
    parameters: int
    window_tokens: int
    run: dict[str, Any] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)
    corpus: CorpusReport | None = None
    results: tuple[Results, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    ratings: Summary | None = None


def gather_evidence(
    model: Path,
    data: Path | None,
    results: Sequence[Results],
    measurements: Sequence[Measurement] = (),
    ratings: Summary | None = None,
    name: str | None = None,
) -> Evidence:
    """Read what lies beside a model, which is called by its folder unless it is given a name.

    Raises:
        InputError: there is no model, or a file of it is damaged.
    """
    config = describe_model(model)
    name = name or (model.resolve().parent.name if model.name == "model" else model.name)
    return Evidence(
        name=name,
        parameters=config.count_parameters(),
        window_tokens=config.max_positions,
        run=_read(model / RUN_FILE),
        lineage=_read(model / LINEAGE_FILE),
        corpus=corpus_report.read_manifest(data) if data is not None else None,
        results=tuple(results),
        measurements=tuple(measurements),
        ratings=ratings,
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}); copy the model again") from error
    return plain if isinstance(plain, dict) else {}


def write_card(evidence: Evidence) -> str:
    """Write the card, section by section."""
    parts = [f"# {evidence.name}\n"]
    for title, write in _SECTIONS:
        lines = list(write(evidence))
        parts.append(f"## {title}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def count(number: int, one: str, many: str = "") -> str:
    """Count things in words.

    >>> count(1, "file"), count(1200, "file")
    ('1 file', '1,200 files')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _write_summary(evidence: Evidence) -> Iterator[str]:
    yield f"A Gemma 1 network of {evidence.parameters:,} parameters that reads and writes code in a window of"
    yield f"{evidence.window_tokens:,} tokens, made with codegemma. It is not a model that Google published."
    terms = evidence.lineage.get("terms")
    if terms:
        yield "\nIt is a derivative of Gemma and bound by the Gemma Terms of Use: see `NOTICE`."
    for step in evidence.lineage.get("steps", []):
        about = ", ".join(f"{name} {value}" for name, value in step.items() if name != "act" and value is not None)
        yield f"- {step.get('act')}: {about}"


def _write_inputs(evidence: Evidence) -> Iterator[str]:
    modes = ", ".join(str(mode).upper() for mode in evidence.run.get("infill_modes", []))
    orders = f", in the orders {modes}" if modes else ""
    yield f"- **Input**: the text before and after a cursor{orders}; a path; other files."
    yield "- **Output**: the text between them."


def _write_data(evidence: Evidence) -> Iterator[str]:
    corpus = evidence.corpus
    if corpus is None:
        yield "Not known: the data folder was not given."
        return
    size = f"{count(corpus.files_train, 'file')}, {corpus.bytes_train / 1e6:,.1f} MB"
    repositories = count(len(corpus.repos), "repository", "repositories")
    yield f"{size}, of {repositories}; held out: {count(corpus.files_heldout, 'file')}.\n"
    yield "| licence | files |\n|---|---|"
    counted = sorted(corpus.licenses, key=lambda one: -one.files)
    for one in counted[:_SHOWN_LICENSES]:
        yield f"| {one.license or 'none stated'} | {one.files:,} |"
    if len(counted) > _SHOWN_LICENSES:
        yield f"| {len(counted) - _SHOWN_LICENSES:,} more | {sum(one.files for one in counted[_SHOWN_LICENSES:]):,} |"


def _write_processing(evidence: Evidence) -> Iterator[str]:
    feed = evidence.run.get("identity", {}).get("feed", {})
    if feed:
        mode, natural = str(feed["spm_mode"]).upper(), f"{feed['natural_share']:.0%}"
        shares = feed["infill_share"], feed["spm_share"]
        yield f"- {shares[0]:.0%} of pieces have a hole, {shares[1]:.0%} of those in {mode}, the others in PSM."
        yield f"- {natural} of the suffixes are moved to a syntactically natural point."
        yield f"- Paths stand before {feed['path_share']:.0%} of the files."
    pack = evidence.run.get("recipe", {}).get("pack", {})
    if pack:
        yield f"- Packing: order `{pack['order']}`, by imports, tests beside what they test."
    corpus = evidence.corpus
    if corpus is not None:
        dropped = ", ".join(f"{s.stage} {s.files_dropped:,}" for s in corpus.stages if s.files_dropped)
        yield f"- Files dropped by stage: {dropped or 'none'}."
        replaced = ", ".join(f"{kind} {count:,}" for kind, count in sorted(corpus.redactions.items()))
        yield f"- Personal data replaced by pseudonyms: {replaced or 'none found'}."
        yield f"- Lists of the operator, illegal content among them: {'; '.join(corpus.lists) or 'none given'}."


def _write_training(evidence: Evidence) -> Iterator[str]:
    run = evidence.run
    if not run:
        yield "Not known: the model has no run file."
        return
    result, train = run.get("result", {}), run.get("identity", {}).get("train", {})
    with_what = f"JAX {run['jax_version']}, codegemma {run['codegemma_version']}"
    yield f"- {count(run['total_steps'], 'step')} on {run['device']}, {with_what}."
    if result:
        minutes, loss = result["seconds"] / 60, result["final_loss"]
        yield f"- {result['tokens']:,} tokens in {minutes:,.1f} minutes; final loss {loss:.3f}."
    if train:
        batch = f"{train['batch_rows']} rows of {train['row_tokens']:,} tokens a step"
        yield f"- AdamW, peak learning rate {train['peak_learning_rate']:g}, {batch}."
    yield f"- Recipe `{run.get('recipe', {}).get('name', 'unnamed')}`; the whole of it is in `{RUN_FILE}`."


def _write_evaluation(evidence: Evidence) -> Iterator[str]:
    measured = [m for m in evidence.measurements if m.metric in ("exact_match", "bits_per_byte")]
    if measured:
        yield "Held-out files, 95 % intervals by bootstrap over files:\n"
        yield "| hole | system | mode | figure | value |\n|---|---|---|---|---|"
        for m in measured:
            low, high = m.interval.low, m.interval.high
            spread = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
            mode = m.mode.upper() if m.mode else ""
            yield f"| {m.kind} | {m.system} | {mode} | {m.metric} | {m.interval.mean:.3f}{spread} |"
        yield ""
    if evidence.results:
        yield from _write_headlines(evidence.results)
        yield "Benchmarks, beside what Google published of its own models:\n"
        yield spell_card(fill_card(evidence.results))
    elif not measured:
        yield NOT_MEASURED


def _write_headlines(results: Sequence[Results]) -> Iterator[str]:
    """Write the first figure of every suite that neither the table of the card nor the section of safety has."""
    elsewhere = SAFETY_SUITES | {row.suite for row in read_published()}
    suites = [suite for result in results for suite in result.suites if suite.suite not in elsewhere]
    lines = [line for line in list_headlines(suites) if line.measured is not None]
    if not lines:
        return
    yield "The first figure of each other suite, with its 95 % interval:\n"
    yield "| suite | figure | value | asked |\n|---|---|---|---|"
    for line in lines:
        items = line.measured.interval.items if line.measured else 0
        yield f"| {line.suite} | {line.about} | {line.spell()} | {items:,} |"
    yield ""


def _write_safety(evidence: Evidence) -> Iterator[str]:
    yield from write_safety(evidence.results)
    rated = evidence.ratings
    if rated is None or not rated.items:
        yield "- Human ratings: there are none."
        return
    yield "- Human ratings:\n"
    yield from (f"  - {line.strip()}" for line in spell_summary(rated))


def _write_limits(evidence: Evidence) -> Iterator[str]:
    yield "It repeats what its training files do, errors included, and writes names that do not exist. What it writes"
    yield "has to be read and tested. Secrets were filtered by rules, which find what the rules describe and no more."
    yield from write_limits(evidence.results)
    if evidence.window_tokens < 2048:
        yield f"Its window of {evidence.window_tokens:,} tokens shows it little of a file."


def _write_use(evidence: Evidence) -> Iterator[str]:
    del evidence
    yield "Completing code in an editor, for people who know the repositories that it learned. It was not made to"
    yield "follow instructions or to hold a conversation."


_SECTIONS = (
    ("Model", _write_summary),
    ("Inputs and outputs", _write_inputs),
    ("Training data", _write_data),
    ("Data processing", _write_processing),
    ("Training", _write_training),
    ("Evaluation", _write_evaluation),
    ("Ethics and safety", _write_safety),
    ("Limitations", _write_limits),
    ("Intended use", _write_use),
)
