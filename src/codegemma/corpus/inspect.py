"""Judges files one by one, over workers: licence, secrets, quality, and the digest by which duplicates are found.

**In**: the listings of the repositories.
**Out**: the files worth keeping, streamed; what is remembered of each; and the dropped files.
**Not**: anything that needs to see two files at once.
"""

import dataclasses
import functools
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from codegemma.corpus import licenses, quality, safety
from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.dedup import Sighting, digest_text
from codegemma.corpus.entries import Listing
from codegemma.corpus.personal import Redaction, apply_redactions, find_personal, read_key
from codegemma.corpus.quality_rules import load_quality_rules
from codegemma.corpus.read import read_listing
from codegemma.corpus.secret_rules import load_secret_rules
from codegemma.records import DroppedFile, SourceFile
from codegemma.runner import Progress, map_ordered

FileKey = tuple[str, str]  # repository and path


class Inspection(NamedTuple):
    """What a worker finds out about one file: why it is dropped, if it is; else its digest and what to redact."""

    drop: DroppedFile | None
    digest: str
    size_bytes: int
    cpu_s: dict[str, float]
    redactions: list[Redaction]


class Kept(NamedTuple):
    """What is remembered of a file while its text waits on disk."""

    sighting: Sighting
    size_bytes: int
    license: str | None

    @property
    def key(self) -> FileKey:
        """Repository and path."""
        return self.sighting.repo, self.sighting.path


@dataclass(slots=True)
class Intake:
    """What has come in so far. `kept` and `dropped` grow while `stream_kept` is read."""

    kept: list[Kept] = field(default_factory=list)
    dropped: list[DroppedFile] = field(default_factory=list)
    cpu_s: Counter[str] = field(default_factory=Counter)
    redactions: Counter[str] = field(default_factory=Counter)


def inspect_file(file: SourceFile, choices: CorpusChoices, key: str = "") -> Inspection:
    """Judge one file; a dropped file's detail names the rule and the line, never the secret."""
    size_bytes = len(file.text.encode())
    refusal = judge_license(file.license, choices)
    if refusal is not None:
        return Inspection(_drop(file, licenses.STAGE, *refusal, size_bytes), "", size_bytes, {}, [])
    rules = load_quality_rules(choices.quality_rules)
    times_s = [time.process_time()]
    secrets = safety.find_secrets(file.text, file.path, load_secret_rules(choices.secret_rules))
    times_s.append(time.process_time())
    defect = None if secrets else quality.find_defect(file.text, file.language, rules, file.path)
    times_s.append(time.process_time())
    is_kept = not secrets and not defect
    digest = digest_text(file.text) if is_kept else ""
    times_s.append(time.process_time())
    wants_redaction = is_kept and choices.replace_personal
    redactions = find_personal(file.text, file.repo, key) if wants_redaction else []
    times_s.append(time.process_time())
    drop = None
    if secrets:
        drop = _drop(file, safety.STAGE, "secret", secrets[0].describe(), size_bytes)
    elif defect:
        drop = _drop(file, quality.STAGE, defect.reason, defect.detail, size_bytes)
    steps = ("safety_cpu_s", "quality_cpu_s", "digest_cpu_s", "personal_cpu_s")
    cpu_s = {step: after - before for step, before, after in zip(steps, times_s, times_s[1:], strict=False)}
    return Inspection(drop, digest, size_bytes, cpu_s, redactions)


def redact(file: SourceFile, redactions: Sequence[Redaction]) -> SourceFile:
    """Put pseudonyms in place and note the lines."""
    if not redactions:
        return file
    notes = tuple(f"{r.kind}:{file.text.count(chr(10), 0, r.start) + 1}" for r in redactions)
    return dataclasses.replace(file, text=apply_redactions(file.text, redactions), redactions=notes)


def judge_license(license: str | None, choices: CorpusChoices) -> tuple[str, str] | None:
    """Tell why a licence is not accepted: reason and detail."""
    if license is None:
        return (
            None if choices.keep_unlicensed else ("unknown", "no tag, notice, manifest or licence text speaks for it")
        )
    accepted = licenses.expand_accepted(choices.licenses)
    return None if not accepted or licenses.is_accepted(license, accepted) else ("not_accepted", license)


def _drop(file: SourceFile, stage: str, reason: str, detail: str, size_bytes: int) -> DroppedFile:
    return DroppedFile(file.repo, file.path, stage, reason, detail, size_bytes)


def stream_kept(
    listings: Sequence[Listing], choices: CorpusChoices, workers: int, intake: Intake, on_progress: Progress
) -> Iterator[SourceFile]:
    """Yield the files that pass, in the order of the listings, and note in `intake` what became of every file."""
    total = sum(len(listing.entries) for listing in listings)
    under_way: deque[SourceFile] = deque()

    def read_files() -> Iterator[SourceFile]:
        for listing in listings:
            for result in read_listing(listing, choices):
                if isinstance(result, DroppedFile):
                    intake.dropped.append(result)
                else:
                    under_way.append(result)
                    yield result

    inspect = functools.partial(inspect_file, choices=choices, key=read_key(choices.pseudonym_key_file))
    for inspection in map_ordered(inspect, read_files(), workers):
        file = under_way.popleft()
        intake.cpu_s.update(inspection.cpu_s)
        if inspection.drop is not None:
            intake.dropped.append(inspection.drop)
        else:
            sighting = Sighting(file.repo, file.path, file.blob, inspection.digest)
            intake.kept.append(Kept(sighting, inspection.size_bytes, file.license))
            intake.redactions.update(redaction.kind for redaction in inspection.redactions)
            yield redact(file, inspection.redactions)
        on_progress("corpus", len(intake.kept) + len(intake.dropped), total)
    on_progress("corpus", total, total)
