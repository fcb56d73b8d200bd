"""Takes in one shard: reads its files, refuses what holds secrets, puts pseudonyms in place of personal data.

**In**: an `IntakeTask`, the listed files of a shard.
**Out**: four files that share a name: the texts (`SourceFile`), what is known of each (`Sighting`), the drops, and the
build files, which are no texts to train on but go through the same checks.
**Not**: anything that the choices of later steps decide: they ask the sightings, or read the texts again.

A text reaches the disk after its secrets were looked for, never before.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from codegemma.corpus import block_list, safety
from codegemma.corpus.block_list import BlockList, find_blocked, read_block_list
from codegemma.corpus.choices import CorpusChoices, narrow
from codegemma.corpus.copies import UNREACHABLE
from codegemma.corpus.dedup import digest_text
from codegemma.corpus.entries import ListedFile
from codegemma.corpus.names import NamesPlugin, describe_names_plugin, find_names, load_names_plugin
from codegemma.corpus.personal import Redaction, apply_redactions, describe_key, find_personal, read_key
from codegemma.corpus.read import read_build_file, read_file
from codegemma.corpus.secret_rules import SecretRules, load_secret_rules
from codegemma.corpus.tokens import encode_text
from codegemma.recipe import fingerprint
from codegemma.records import BuildFile, DroppedFile, SourceFile, SourceKind
from codegemma.shards import read_records, write_records
from codegemma.steps import CpuClock

# The choices that a text in a shard hangs on.
CHOICES = (
    "languages", "max_file_bytes", "notebooks", "max_notebook_bytes", "replace_personal",
    "pseudonym_key_file", "secret_rules", "block_list", "names_plugin",
)  # fmt: skip
# Of these, what counts is what lies in the file, or which version is installed: `describe_lists` tells it.
_NAMED = ("pseudonym_key_file", "secret_rules", "block_list", "names_plugin")


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is known of one text of a shard; sightings stand in the order of the texts.

    `digest` names the text up to white space, `size_bytes` is that of the text before pseudonyms came in.
    """

    repo: str
    path: str
    blob: str
    digest: str
    license: str | None
    language: str
    size_bytes: int
    redactions: tuple[str, ...]
    kind: SourceKind


@dataclass(frozen=True, slots=True)
class IntakeTask:
    """The listed files of one shard, and where its texts go. `choices` are those of `CHOICES`, the rest at default."""

    files: tuple[ListedFile, ...]
    choices: CorpusChoices
    out: Path

    @property
    def size(self) -> int:
        """Files."""
        return len(self.files)

    @property
    def files_out(self) -> tuple[Path, ...]:
        """All that the task writes."""
        return self.out, self.sightings, self.dropped, self.build_files

    @property
    def sightings(self) -> Path:
        """Where what is known of each text stands."""
        return self.out.with_suffix(".sightings.parquet")

    @property
    def dropped(self) -> Path:
        """Where the dropped files stand."""
        return self.out.with_suffix(".dropped.parquet")

    @property
    def build_files(self) -> Path:
        """Where the build files stand."""
        return self.out.with_suffix(".build.parquet")


def make_intake_task(files: tuple[ListedFile, ...], choices: CorpusChoices, folder: Path, tables: str) -> IntakeTask:
    """Name a shard's task by all that its texts hang on: the files as listed, the choices, and the tables of rules.

    `tables` names them and what `describe_lists` says, once for all shards.
    """
    narrowed = narrow(choices, CHOICES)
    settings = narrow(choices, [name for name in CHOICES if name not in _NAMED])
    listed = xxhash.xxh3_128()
    for file in files:
        listed.update(repr(_describe_file(file)).encode())
    key = fingerprint(settings, tables, listed.hexdigest())
    return IntakeTask(files, narrowed, folder / f"texts-{key}.parquet")


def describe_lists(choices: CorpusChoices) -> tuple[str, ...]:
    """Say, for the report, which rules, lists and plug-ins every text is held against, and which were not given.

    Raises:
        InputError: one that cannot be used.
    """
    return (
        load_secret_rules(choices.secret_rules).describe(),
        read_block_list(choices.block_list).describe(),
        describe_key(choices.pseudonym_key_file),
        describe_names_plugin(choices.names_plugin),
    )


def _describe_file(file: ListedFile) -> tuple[object, ...]:
    entry = file.entry
    listed = (entry.path, entry.size_bytes, entry.stamp, entry.refusal, entry.stated_license, entry.language_hint)
    return (file.repo, file.commit, file.license, file.kind, *listed)


def take_in(task: IntakeTask) -> dict[str, float]:
    """Read, check and write one shard; return seconds of CPU time by step."""
    key = read_key(task.choices.pseudonym_key_file)
    texts: list[SourceFile] = []
    sightings: list[Sighting] = []
    dropped: list[DroppedFile] = []
    build_files: list[BuildFile] = []
    clock = CpuClock()

    rules, blocked = load_secret_rules(task.choices.secret_rules), read_block_list(task.choices.block_list)
    plugin = load_names_plugin(task.choices.names_plugin)
    clock.lap("read")
    for listed in task.files:
        build_file = read_build_file(listed, task.choices)
        if build_file is not None and _is_admitted(build_file, rules, blocked):
            build_files.append(_redact_build_file(build_file, task.choices, key, plugin))
        file = read_file(listed, task.choices)
        clock.lap("read")
        if isinstance(file, DroppedFile):
            dropped.append(file)
            continue
        size_bytes = len(encode_text(file.text))
        listed_as = find_blocked(file.text, blocked)
        if listed_as is not None:
            clock.lap("block_list")
            detail = listed_as.describe()
            dropped.append(DroppedFile(file.repo, file.path, block_list.STAGE, listed_as.reason, detail, size_bytes))
            continue
        clock.lap("block_list")
        secrets = safety.find_secrets(file.text, file.path, rules)
        clock.lap("safety")
        if secrets:
            detail = secrets[0].describe()
            dropped.append(DroppedFile(file.repo, file.path, safety.STAGE, "secret", detail, size_bytes))
            continue
        digest = digest_text(file.text)
        clock.lap("digest")
        redactions = find_personal(file.text, file.repo, key) if task.choices.replace_personal else []
        clock.lap("personal")
        if plugin is not None:
            redactions = find_names(file.text, plugin, file.repo, key, redactions)
            clock.lap("names")
        file = redact(file, redactions)
        texts.append(file)
        sightings.append(
            Sighting(
                file.repo,
                file.path,
                file.blob,
                digest,
                file.license,
                file.language,
                size_bytes,
                file.redactions,
                file.kind,
            )
        )
    # The texts last: where they stand, the shard is whole.
    write_records(task.build_files, build_files, BuildFile)
    write_records(task.dropped, dropped, DroppedFile)
    write_records(task.sightings, sightings, Sighting)
    write_records(task.out, texts, SourceFile)
    clock.lap("write")
    return clock.seconds


def has_unreached(task: IntakeTask) -> bool:
    """Tell whether a store did not give a file of a shard that was taken in: then it is to be taken in again."""
    return any(drop.reason == UNREACHABLE for drop in read_records(task.dropped, DroppedFile))


def _is_admitted(file: BuildFile, rules: SecretRules, blocked: BlockList) -> bool:
    """Say whether a build file may be written to disk; one that may not is as good as not there."""
    return find_blocked(file.text, blocked) is None and not safety.find_secrets(file.text, file.path, rules)


def _redact_build_file(file: BuildFile, choices: CorpusChoices, key: str, plugin: NamesPlugin | None) -> BuildFile:
    redactions = find_personal(file.text, file.repo, key) if choices.replace_personal else []
    if plugin is not None:
        redactions = find_names(file.text, plugin, file.repo, key, redactions)
    return dataclasses.replace(file, text=apply_redactions(file.text, redactions))


def redact(file: SourceFile, redactions: Sequence[Redaction]) -> SourceFile:
    """Put pseudonyms in place and note the lines."""
    if not redactions:
        return file
    notes, line, position = [], 1, 0
    for redaction in redactions:
        line += file.text.count("\n", position, redaction.start)
        position = redaction.start
        notes.append(f"{redaction.kind}:{line}")
    return dataclasses.replace(file, text=apply_redactions(file.text, redactions), redactions=tuple(notes))
