"""What a job would take, for `--dry-run`: from a look at the files and a few measured steps.

**In**: an `AdaptJob`; of a folder where rounds have run, what they learned and how the data lie.
**Out**: plain data: files, tokens, steps, minutes; for a further round, what has changed and what it would train on.
**Not**: anything written, and no build: which files quality or the held-out border take out is known from the last one.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from codegemma.adapt import AdaptJob, describe_choices
from codegemma.corpus.inputs import list_repositories
from codegemma.corpus.ledger import LEDGER_FILE, read_ledger
from codegemma.corpus.pipeline import DROPPED_FILE
from codegemma.corpus.read import read_listing
from codegemma.model.weights import describe_model, locate_tokenizer
from codegemma.pack.pipeline import DROPPED_FILE as DROPPED_SYNTAX_FILE
from codegemma.records import DroppedFile, Pack, SourceFile
from codegemma.round_files import PACKS_FILE, find_round
from codegemma.rounds import (
    RoundPlan,
    check_rounds,
    find_begun,
    find_finished,
    read_first,
    read_round,
    read_trained,
)
from codegemma.shards import read_records
from codegemma.text.tokenizer import Tokenizer
from codegemma.train.choices import TrainChoices
from codegemma.train.manifest import read_manifest
from codegemma.train.plan import estimate

# Text that a plan encodes to learn how many characters a token has here.
_SAMPLED_CHARS = 1_000_000

FileKey = tuple[str, str]  # repository and path


@dataclass(slots=True)
class _Look:
    """What a look at the repositories tells: characters by file, and the blobs."""

    chars: dict[FileKey, int]
    blobs: dict[FileKey, str]
    chars_per_token: float


def plan(job: AdaptJob) -> dict[str, object]:
    """Say what the job would take; nothing is written.

    Raises:
        InputError: a repository that cannot be used.
        OutputError: the folder holds rounds of other choices.
    """
    check_rounds(job.out, describe_choices(job))
    look = _look(job)
    about: dict[str, object] = {"files": len(look.chars), "characters": sum(look.chars.values())}
    begun, finished = find_begun(job.out), find_finished(job.out)
    if begun > finished:
        manifest = read_manifest(find_round(job.out, begun))
        train = replace(job.recipe.train, steps=manifest.total_steps if manifest else job.recipe.train.steps)
        chars = read_round(job.out, begun).chars
        return about | {"unfinished_round": begun} | _estimate(job, train, None, chars, look.chars_per_token, runs=1)
    if not finished:
        chars, runs = sum(look.chars.values()), 1 + (job.other is not None)
        return about | _estimate(job, job.recipe.train, job.minutes, chars, look.chars_per_token, runs)
    further = _foresee(job, finished, look)
    about |= {name: getattr(further, name) for name in ("files_new", "files_changed")}
    if not further.files_new + further.files_changed:
        return about | {"steps": 0, "training_minutes": 0.0}
    about |= {
        "round": further.number,
        "packs_changed": further.packs_changed,
        "rehearsal_share": round(further.rehearsed_share, 2),
    }
    train = further.fit_length(job.recipe.train)
    return about | _estimate(job, train, None, further.chars, look.chars_per_token, runs=1)


def _look(job: AdaptJob) -> _Look:
    tokenizer = None if job.base is None else Tokenizer.load(locate_tokenizer(job.base))
    look = _Look({}, {}, job.recipe.pack.chars_per_token)
    sampled_chars = sampled_tokens = 0
    for listing in list_repositories(job.repos, job.out, None, job.recipe.corpus.parquet_columns):
        for found in read_listing(listing, job.recipe.corpus):
            if isinstance(found, SourceFile):
                look.chars[found.repo, found.path] = len(found.text)
                look.blobs[found.repo, found.path] = found.blob
                if tokenizer is not None and sampled_chars < _SAMPLED_CHARS:
                    sampled_chars += len(found.text)
                    sampled_tokens += len(tokenizer.encode(found.text))
    if sampled_tokens:
        look.chars_per_token = sampled_chars / sampled_tokens
    return look


def _foresee(job: AdaptJob, finished: int, look: _Look) -> RoundPlan:
    """Foresee the next round: changed files in the packs where they lie now, new ones as packs of their own."""
    known = read_trained(job.out, finished)
    elsewhere = _list_elsewhere(job)
    new = [key for key in look.blobs if key not in known and key not in elsewhere]
    changed = {key for key, blob in look.blobs.items() if known.get(key, blob) != blob}
    packs = packs_changed = 0
    chars_changed, chars_others = sum(look.chars[key] for key in new), 0
    for pack in read_records(job.out / "data" / PACKS_FILE, Pack):
        packs += 1
        chars = sum(len(file.text) for file in pack.files)
        if any((pack.repo, file.path) in changed for file in pack.files):
            packs_changed, chars_changed = packs_changed + 1, chars_changed + chars
        else:
            chars_others += chars
    share = job.recipe.rounds.rehearsal_share
    first_chars, first_steps = read_first(job.out, finished)
    return RoundPlan(
        number=finished + 1,
        choices={},
        files=len(look.blobs),
        files_new=len(new),
        files_changed=len(changed),
        packs=packs,
        packs_changed=packs_changed,
        packs_rehearsed=0,
        chars_changed=chars_changed,
        chars_rehearsed=min(chars_others, round(chars_changed * share / (1 - share))),
        first_chars=first_chars,
        first_steps=first_steps,
    )


def _list_elsewhere(job: AdaptJob) -> set[FileKey]:
    """List the files that the last build held out or dropped."""
    data = job.out / "data"
    sides = read_ledger(data / LEDGER_FILE, job.recipe.corpus).sides
    elsewhere = {(repo, path) for repo, paths in sides.items() for path, is_heldout in paths.items() if is_heldout}
    for file in _list_existing(data):
        elsewhere |= {(drop.repo, drop.path) for drop in read_records(file, DroppedFile)}
    return elsewhere


def _list_existing(data: Path) -> list[Path]:
    return [data / name for name in (DROPPED_FILE, DROPPED_SYNTAX_FILE) if (data / name).exists()]


def _estimate(
    job: AdaptJob, train: TrainChoices, minutes: float | None, chars: int, chars_per_token: float, runs: int
) -> dict[str, object]:
    config = job.recipe.model if job.base is None else describe_model(job.base)
    estimated = estimate(config, train, minutes)
    epoch_tokens = round(chars / chars_per_token)
    return {
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
