"""Real source of the standard library and copies of it that people make: renamed, extended, with other comments."""

import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

MIN_BYTES, MAX_BYTES = 1_500, 60_000


def read_library(limit: int) -> dict[str, str]:
    """Read modules of the standard library, tests and generated tables aside; spread over all of it."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = sorted(path for path in root.rglob("*.py") if not {"site-packages", "test", "tests"} & set(path.parts))
    texts = {}
    for path in paths:
        if "encodings" not in path.parts and MIN_BYTES <= path.stat().st_size <= MAX_BYTES:
            texts[path.relative_to(root).as_posix()] = path.read_text(encoding="utf-8", errors="replace")
    step = max(1, len(texts) // limit)
    return dict(list(texts.items())[::step][:limit])


def rename_identifier(text: str, seed: int) -> str:
    """Rename one identifier of the text throughout."""
    words = sorted(set(re.findall(r"\b[a-z]\w{3,}\b", text)))
    old = random.Random(seed).choice(words) if words else "self"
    return re.sub(rf"\b{old}\b", f"{old}_renamed", text)


def insert_lines(text: str, seed: int) -> str:
    """Insert one new line for every forty."""
    source, lines = random.Random(seed), []
    for line in text.splitlines():
        lines.append(line)
        if source.random() < 1 / 40:
            lines.append(f"    marker_{source.randrange(10**6)} = measure({source.randrange(100)})")
    return "\n".join(lines)


def change_comments(text: str, seed: int) -> str:
    """Put another comment in the place of every comment that has a line of its own, and a licence on top."""
    changed = re.sub(r"(?m)^(\s*)#.*$", lambda match: f"{match[1]}# note {seed}", text)
    return f"# Copyright {1990 + seed % 30} Somebody Else\n# All rights reserved.\n" + changed


EDITS = {"renamed": rename_identifier, "extended": insert_lines, "commented": change_comments}


def plant(texts: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield the path of the original, the kind of edit and the copy."""
    for number, (path, text) in enumerate(texts.items()):
        for kind, edit in EDITS.items():
            yield path, kind, edit(text, number)
