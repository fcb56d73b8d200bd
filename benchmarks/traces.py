"""Makes a trace of somebody typing in real files of this machine: the same seed and files give the same trace.

In 30 files of four languages a stretch of each file is taken out and typed anew: character by character, with
deletions that are typed again, completions accepted in one step, brackets that the editor closes by itself, jumps to
another place of the file, and edits below the cursor. Half the clients send the whole file, half a window of 256 lines
before the cursor and 64 after it.
"""

import hashlib
import json
import random
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SEED = 20261128
FILES_PER_LANGUAGE = {"python": 12, "c": 6, "cpp": 6, "javascript": 6}
_SUFFIXES = {"python": (".py",), "c": (".c",), "cpp": (".cc", ".cpp", ".hpp"), "javascript": (".js",)}
_WINDOW_BEFORE_LINES, _WINDOW_AFTER_LINES = 256, 64
_CLOSERS = {"(": ")", "[": "]", "{": "}"}
COLD = ("file switch", "jump", "edit below")


@dataclass(frozen=True, slots=True)
class Keystroke:
    """What a client sends after one change. `kind` is typed, deleted, accepted, or a cold one."""

    kind: str
    path: str
    language: str
    prefix: str
    suffix: str
    is_window: bool


def find_files() -> list[tuple[str, Path]]:
    """Choose files of some size: Python's own library, and sources in installed packages and on the system."""
    library, packages = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))
    system = Path("/usr")
    places = {
        "python": [library],
        "c": [packages, system / "share"],
        "cpp": [packages],
        "javascript": [packages, system],
    }
    chosen = []
    for language, count in FILES_PER_LANGUAGE.items():
        found = sorted(_list_sources(places[language], _SUFFIXES[language]), key=lambda p: _rank(p.name))
        if len(found) < count:
            raise SystemExit(f"{len(found)} {language} files of 8 to 120 kB here; the trace wants {count}")
        chosen += [(language, path) for path in found[:count]]
    return chosen


def _list_sources(places: list[Path], suffixes: tuple[str, ...]) -> Iterator[Path]:
    seen = set()
    for place in places:
        for path in place.rglob("*"):
            if path.suffix not in suffixes or path.name in seen or "test" in path.as_posix() or ".min." in path.name:
                continue
            if "site-packages" in path.as_posix() and "site-packages" not in place.as_posix():
                continue
            if path.is_file() and 8_000 <= path.stat().st_size <= 120_000 and _is_source(path):
                seen.add(path.name)
                yield path


def _is_source(path: Path) -> bool:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (UnicodeDecodeError, OSError):
        return False
    return len(lines) > 200 and max(map(len, lines)) < 400


def _rank(name: str) -> str:
    return hashlib.sha256(f"{SEED}{name}".encode()).hexdigest()


class Editor:
    """A buffer, a cursor and a client."""

    def __init__(self, language: str, path: Path, draw: random.Random, is_window: bool) -> None:
        self.language, self.path, self.draw, self.is_window = language, path.name, draw, is_window
        self.text = path.read_text(encoding="utf-8")
        self.before, self.after = "", ""
        self.closers = ""  # what the editor wrote behind the cursor by itself

    def show(self, kind: str) -> Keystroke:
        before, after = self.before, self.closers + self.after
        if self.is_window:
            before = "".join(before.splitlines(keepends=True)[-_WINDOW_BEFORE_LINES - 1 :])
            after = "".join(after.splitlines(keepends=True)[: _WINDOW_AFTER_LINES + 1])
        return Keystroke(kind, self.path, self.language, before, after, self.is_window)

    def cut(self, chars: int) -> str:
        """Go to a line in the middle of the file and take out what will be typed there."""
        text = self.before + self.after if self.before else self.text
        starts = [i + 1 for i, char in enumerate(text) if char == "\n"]
        middle = [start for start in starts if len(text) // 5 < start < len(text) * 4 // 5]
        start = self.draw.choice(middle)
        while not text[start : start + chars].strip():
            start = self.draw.choice(middle)
        self.before, self.after = text[:start], text[start + chars :]
        return text[start : start + chars]

    def type(self, char: str) -> None:
        if self.closers.startswith(char):
            self.closers = self.closers[1:]
        elif char in _CLOSERS and self.after.startswith("\n"):
            self.closers = _CLOSERS[char] + self.closers
        self.before += char


def make_trace(keystrokes_per_file: int = 80) -> Iterator[Keystroke]:
    """Make the whole trace, file by file."""
    for number, (language, path) in enumerate(find_files()):
        draw = random.Random(f"{SEED}{path.name}")
        editor = Editor(language, path, draw, is_window=number % 2 == 1)
        yield from _type_in(editor, draw, keystrokes_per_file)


def _type_in(editor: Editor, draw: random.Random, keystrokes: int) -> Iterator[Keystroke]:
    count, kind = 0, "file switch"
    while count < keystrokes:
        rest = editor.cut(draw.randint(60, 160))
        yield editor.show(kind)
        count += 1
        while rest and count < keystrokes:
            keystrokes_now, typed = _step(editor, draw, rest)
            yield from keystrokes_now
            count += len(keystrokes_now)
            rest = rest[typed:]
        editor.after, editor.closers = rest + editor.after, ""
        kind = "jump"


def _step(editor: Editor, draw: random.Random, rest: str) -> tuple[list[Keystroke], int]:
    """Make one change or a burst of them; also say how much of the rest is typed by then."""
    chance = draw.random()
    if chance < 0.03:
        line, _, below = editor.after.partition("\n")
        editor.after = f"{line}\n# later: {draw.randint(0, 999)}\n{below}"
        return [editor.show("edit below")], 0
    if chance < 0.08:
        length = min(draw.randint(8, 30), len(rest))
        for char in rest[:length]:
            editor.type(char)
        return [editor.show("accepted")], length
    if chance < 0.14 and len(editor.before.rsplit("\n", 1)[-1]) > 6 and not editor.closers:
        return _delete_and_type_again(editor, editor.before[-draw.randint(1, 5) :]), 0
    editor.type(rest[0])
    return [editor.show("typed")], 1


def _delete_and_type_again(editor: Editor, gone: str) -> list[Keystroke]:
    keystrokes = []
    for _ in gone:
        editor.before = editor.before[:-1]
        keystrokes.append(editor.show("deleted"))
    for char in gone:
        editor.before += char
        keystrokes.append(editor.show("typed"))
    return keystrokes


def describe(trace: list[Keystroke]) -> str:
    """Name a trace, so that two runs can be told to be of the same."""
    digest = hashlib.sha256(json.dumps([(k.kind, k.path, k.prefix, k.suffix) for k in trace]).encode()).hexdigest()
    return f"{len(trace)} keystrokes, {len({k.path for k in trace})} files, trace {digest[:12]}"
