"""Keeps ratings: one JSON line for each item that a person has rated, written down before the next is shown.

**In**: what a page sends; a folder.
**Out**: `Rating`s, in `ratings.jsonl`; of two of the same rater and item the later one counts.
**Not**: what they say together (`summary.py`).
"""

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from codegemma.errors import InputError, OutputError
from codegemma.rating.campaign import Campaign, Item
from codegemma.recipe import from_plain, to_plain

RATINGS_FILE = "ratings.jsonl"
_MAX_COMMENT_CHARS, _MAX_NAME_CHARS = 4000, 64
_MAX_SECONDS = 10.0**6


@dataclass(frozen=True, slots=True)
class Rating:
    """What one person said of one item. `values` are numbers of labels from 0 on, by question, in the order of
    `systems`: whoever saw the answers the other way round has been turned back."""

    rater: str
    item: str
    systems: tuple[str, ...]
    values: dict[str, int]
    comment: str
    was_swapped: bool
    seconds: float
    at: str


class RatingStore:
    """The ratings of one campaign in one folder."""

    def __init__(self, folder: Path, campaign: Campaign) -> None:
        """Open the folder, and read what is there.

        Raises:
            InputError: a file of ratings that is none, or of other systems.
            OutputError: the folder cannot be made.
        """
        self._campaign, self._file = campaign, folder / RATINGS_FILE
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from error
        self._items = {item.item_id: item for item in campaign.items}
        self._rated: dict[str, set[str]] = {}
        for rating in read_ratings(self._file) if self._file.exists() else ():
            if rating.systems != campaign.systems:
                raise InputError(f"{self._file} rates {', '.join(rating.systems)}; take another --out")
            self._rated.setdefault(rating.rater, set()).add(rating.item)
        if self._file.exists():
            _end_last_line(self._file)

    def find_next(self, rater: str) -> Item | None:
        """Find the first item that this person has not rated."""
        done = self._rated.get(check_name(rater), set())
        return next((item for item in self._campaign.items if item.item_id not in done), None)

    def count(self, rater: str) -> int:
        """Count what this person has rated."""
        return len(self._rated.get(rater, set()) & self._items.keys())

    def add(self, rater: str, item_id: str, shown: Mapping[str, int], comment: str, seconds: float) -> Rating:
        """Write a rating down; `shown` are the values as this person saw the answers.

        Raises:
            InputError: an unknown item or question, a value without a label, or a question without a value.
            OutputError: it could not be written.
        """
        item = self._items.get(item_id)
        if item is None:
            raise InputError(f"no item {item_id!r} in this campaign")
        is_swapped = self._campaign.is_swapped(check_name(rater), item)
        values = {q: self._turn(q, value, is_swapped) for q, value in self._check(shown).items()}
        at = datetime.now(UTC).isoformat(timespec="seconds")
        told = comment[:_MAX_COMMENT_CHARS]
        seconds = seconds if 0 <= seconds < _MAX_SECONDS else 0.0  # a clock that went wrong, or no number
        rating = Rating(rater, item_id, self._campaign.systems, values, told, is_swapped, round(seconds, 1), at)
        with self._lock:
            self._append(rating)
            self._rated.setdefault(rater, set()).add(item_id)
        return rating

    def _check(self, shown: Mapping[str, int]) -> Mapping[str, int]:
        wanted = {q.question_id: len(q.labels) for q in self._campaign.questions}
        if set(shown) != set(wanted):
            raise InputError(f"values for {', '.join(sorted(shown)) or 'nothing'}; wanted {', '.join(wanted)}")
        for question, value in shown.items():
            if type(value) is not int or not 0 <= value < wanted[question]:
                raise InputError(f"{question}: {value!r} is no label; wanted 0 to {wanted[question] - 1}")
        return shown

    def _turn(self, question_id: str, value: int, is_swapped: bool) -> int:
        labels = next(len(q.labels) for q in self._campaign.questions if q.question_id == question_id)
        return labels - 1 - value if is_swapped else value

    def _append(self, rating: Rating) -> None:
        line = json.dumps(to_plain(rating)) + "\n"
        try:
            with self._file.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"{self._file}: cannot be written ({error.strerror}); the rating is not kept") from error


def _end_last_line(file: Path) -> None:
    """End the last line, or take it away where a machine that went down left a part: the next is not glued to it.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with file.open("r+b") as opened:
            content = opened.read()
            rest = content[content.rfind(b"\n") + 1 :]
            if not rest:
                return
            if _read_line(rest) is not None:
                opened.write(b"\n")
            else:
                opened.truncate(len(content) - len(rest))
    except OSError as error:
        raise OutputError(f"{file}: cannot be written ({error.strerror}); choose another --out") from error


def _read_line(line: bytes | str) -> Rating | None:
    try:
        rating: Rating = from_plain(Rating, json.loads(line))
    except (ValueError, TypeError):
        return None
    return rating


def check_name(rater: str) -> str:
    """Refuse a name that is none.

    Raises:
        InputError: it is empty, too long, or has control characters.
    """
    if not rater.strip() or len(rater) > _MAX_NAME_CHARS or not rater.isprintable():
        raise InputError(f"{rater[:80]!r} is no name of a rater; wanted 1 to {_MAX_NAME_CHARS} printable characters")
    return rater


def read_ratings(file: Path) -> list[Rating]:
    """Read ratings back; the last line may be cut off, where a machine went down, and is left out.

    Raises:
        InputError: no such file, or not written by `codegemma rate`.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read as ratings ({error}); `codegemma rate --out` writes it") from error
    *whole, rest = lines
    ratings = []
    for number, line in enumerate(whole, 1):
        try:
            ratings.append(from_plain(Rating, json.loads(line)))
        except (ValueError, TypeError) as error:
            raise InputError(f"{file}:{number} is no rating ({error})") from error
    last = _read_line(rest)
    return ratings if last is None else [*ratings, last]
