"""Chooses which other files are shown before the current one.

**In**: an ask with what its client sent; a workspace, where there is one.
**Out**: `Neighbor`s in reading order, the nearest last; nothing that looks like a secret.
**Not**: how many fit: `session.py` takes them from the last.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from codegemma.records import Neighbor
from codegemma.serve.asks import InfillAsk
from codegemma.serve.secret_files import MAX_PATH_CHARS, has_secret
from codegemma.text.cursor import spell_path

# A client's chunk of no known file gets a name, as every file in training had.
_UNNAMED = "snippet"


class Surroundings(Protocol):
    """Who knows the files around a file."""

    def find_path(self, path: str) -> str | None:
        """Find what a client's path is called here."""
        ...

    def list_neighbors(self, path: str, text: str) -> Iterable[Neighbor]:
        """List files that explain the one at `path`, the nearest last."""
        ...

    def close(self) -> None:
        """Look no more."""
        ...


class ContextSource:
    """What every request may show: files of the workspace by its import graph, and the client's own."""

    def __init__(self, workspace: Surroundings | None = None) -> None:
        self._workspace = workspace

    def spell_path(self, path: str) -> str:
        """Spell a path as training did: relative to the workspace, else to its git repository."""
        known = self._workspace.find_path(path) if self._workspace is not None else None
        return known or (path if len(path) > MAX_PATH_CHARS else _spell_path(path))

    def choose(self, ask: InfillAsk) -> list[Neighbor]:
        """Choose for one ask: what the client sent stands nearest, for it knows what was just looked at."""
        sent = [Neighbor(self._name(neighbor), neighbor.text) for neighbor in ask.context if neighbor.text.strip()]
        named = {neighbor.path for neighbor in sent} | {ask.path}
        known: Iterable[Neighbor] = ()
        if self._workspace is not None and ask.path:
            known = self._workspace.list_neighbors(ask.path, ask.prefix)
        chosen = [*(neighbor for neighbor in known if neighbor.path not in named), *sent]
        return [neighbor for neighbor in chosen if not has_secret(neighbor.path, neighbor.text)]

    def close(self) -> None:
        """Look at the workspace no more."""
        if self._workspace is not None:
            self._workspace.close()

    def _name(self, neighbor: Neighbor) -> str:
        return self.spell_path(neighbor.path) if neighbor.path else _UNNAMED


@lru_cache(1024)
def _spell_path(path: str) -> str:
    """Spell the path of a file outside any workspace; one that does not exist here stays what the client calls it."""
    path = path.removeprefix("file://")
    file = Path(path)
    try:
        return spell_path(file) if file.is_absolute() and file.parent.is_dir() else path
    except (OSError, ValueError):
        return path
