"""Where the rounds of a job keep their files, how far each came, and what becomes of them when a repository must go.

**In**: a job's folder; which files of which repository go.
**Out**: folders by number; `RoundsRemoval`: whose texts and names go, and which whole rounds have learned from them.
**Not**: planning and training a round (`rounds.py`). A model cannot forget: the round that learned from what went, and
those that started from its model, must be trained again; until they are, `check_untainted` refuses to go on with them.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from codegemma.errors import OutputError
from codegemma.model.config import CONFIG_NAME
from codegemma.model.formats.peft import CONFIG_FILE as ADAPTER_CONFIG
from codegemma.pack.removal import shrink_pack
from codegemma.records import Pack
from codegemma.removal import Matches, list_parts_of, list_repos, remove_leftovers, rewrite
from codegemma.shards import hash_files, list_parts, read_records
from codegemma.steps import is_whole
from codegemma.train.manifest import MODEL_FOLDER, ROUNDS_FOLDER, read_manifest

ROUND_FILE = "round.json"
PACKS_FILE = "packs-train.parquet"
TRAINED_FILE = "trained.parquet"


@dataclass(frozen=True, slots=True)
class TrainedFile:
    """A file that a model has learned from, as it was when it last did."""

    repo: str
    path: str
    blob: str


def find_round(out: Path, number: int) -> Path:
    """Name the folder of a round."""
    return out / ROUNDS_FOLDER / str(number)


def list_rounds(out: Path) -> dict[int, Path]:
    """List the folders of all rounds, also of those that were planned and never begun."""
    folder = out / ROUNDS_FOLDER
    numbers = sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()) if folder.is_dir() else []
    return {number: find_round(out, number) for number in numbers}


def is_finished(folder: Path) -> bool:
    """Say whether the model of a round is whole."""
    model = folder / MODEL_FOLDER
    return is_whole(folder / TRAINED_FILE) and any((model / name).is_file() for name in (CONFIG_NAME, ADAPTER_CONFIG))


# --- what a model cannot forget ---------------------------------------------------------------------------------------


def find_tainted(out: Path) -> list[int]:
    """List the whole rounds whose models learned from what was removed since, by themselves or through one before.

    A run remembers the hash of its packs, and nothing but a removal changes the packs of a round.
    """
    finished = [number for number, folder in list_rounds(out).items() if is_finished(folder)]
    first = next((number for number in finished if _has_lost_packs(find_round(out, number))), None)
    return [number for number in finished if first is not None and number >= first]


def _has_lost_packs(folder: Path) -> bool:
    manifest = read_manifest(folder)
    return manifest is not None and manifest.identity.get("data") != hash_files(list_parts(folder / PACKS_FILE))


def check_untainted(out: Path) -> None:
    """Refuse to go on from a model that learned from what was removed since.

    Raises:
        OutputError: the message says what to remove, and what the next run then starts from.
    """
    if tainted := find_tainted(out):
        raise OutputError(
            f"{describe_taint(tainted)} from what was removed since, and a model cannot forget. {explain(out, tainted)}"
        )


def describe_taint(numbers: Sequence[int]) -> str:
    """Name rounds as the subject of a sentence.

    >>> describe_taint([2]), describe_taint([2, 3])
    ('round 2 has learned', 'rounds 2, 3 have learned')
    """
    return (
        f"round {numbers[0]} has learned"
        if len(numbers) == 1
        else f"rounds {', '.join(map(str, numbers))} have learned"
    )


def explain(out: Path, tainted: Sequence[int]) -> str:
    """Say how to train again what has learned from what was removed."""
    folders = [*(find_round(out, number) for number in tainted), out / MODEL_FOLDER]
    start = "its base" if tainted[0] == 1 else f"the model of round {tainted[0] - 1}"
    return (
        f"To train again from {start}, remove {' '.join(shlex.quote(str(folder)) for folder in folders)} and give the "
        "same `codegemma adapt` command again; what was removed stays out"
    )


# --- the removal ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RoundsRemoval:
    """What a removal finds in the rounds of a job: packs and files of training, names, and numbers of rounds.

    `restarted` are rounds that were not whole: they go, and are planned anew. `tainted` are whole ones.
    """

    packs: int = 0
    files: int = 0
    names: int = 0
    restarted: tuple[int, ...] = ()
    tainted: tuple[int, ...] = ()


def plan_removal(out: Path, repo: str, matches: Matches) -> RoundsRemoval:
    """Find out what a removal touches; nothing is written.

    Raises:
        InputError: a file is damaged.
    """
    packs = files = names = 0
    restarted: list[int] = []
    holding: list[int] = []
    for number, folder in list_rounds(out).items():
        gone = _count_files(_list_packs(folder, repo), matches)
        packs, files = packs + len(gone), files + sum(gone)
        names += sum(matches(seen.repo, seen.path) for seen in _read_trained(folder))
        if gone:
            (holding if is_finished(folder) else restarted).append(number)
    # A model hands on what it learned to those that started from it.
    whole = [number for number, folder in list_rounds(out).items() if is_finished(folder)]
    tainted = tuple(number for number in whole if holding and number >= holding[0])
    return RoundsRemoval(packs, files, names, tuple(restarted), tainted)


def list_known(out: Path) -> set[str]:
    """Name the repositories that the rounds know."""
    files = [folder / name for folder in list_rounds(out).values() for name in (PACKS_FILE, TRAINED_FILE)]
    return {repo for file in files if file.exists() for part in list_parts(file) for repo in list_repos(part)}


def remove_files(out: Path, repo: str, matches: Matches) -> None:
    """Remove the files from the packs of rounds, and their names; a round that holds some and is not whole goes.

    Done again after a kill, it does the rest.

    Raises:
        InputError: a file is damaged.
        OutputError: no permission or no space.
    """
    shrink: Callable[[Pack], Pack | None] = lambda pack: shrink_pack(pack, matches)  # noqa: E731
    remove_leftovers(out / ROUNDS_FOLDER)
    for folder in list_rounds(out).values():
        parts = _list_packs(folder, repo)
        if not is_finished(folder) and _count_files(parts, matches):
            _rename(folder, folder.with_name(f".{folder.name}.tmp"))  # with one stroke; what it holds goes below
            continue
        for part in parts:
            rewrite(part, Pack, shrink)
        if (folder / TRAINED_FILE).exists():
            rewrite(folder / TRAINED_FILE, TrainedFile, lambda seen: None if matches(seen.repo, seen.path) else seen)
    remove_leftovers(out / ROUNDS_FOLDER)


def _list_packs(folder: Path, repo: str) -> list[Path]:
    return list_parts_of(folder / PACKS_FILE, repo) if (folder / PACKS_FILE).exists() else []


def _count_files(parts: Sequence[Path], matches: Matches) -> list[int]:
    """Count the files that go in each pack that loses one."""
    packs = (pack for part in parts for pack in read_records(part, Pack))
    return [gone for pack in packs if (gone := sum(matches(pack.repo, file.path) for file in pack.files))]


def _read_trained(folder: Path) -> list[TrainedFile]:
    file = folder / TRAINED_FILE
    return list(read_records(file, TrainedFile)) if file.exists() else []


def _rename(folder: Path, name: Path) -> None:
    try:
        folder.rename(name)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be removed ({error.strerror}); give the permission and run again"
        ) from error
