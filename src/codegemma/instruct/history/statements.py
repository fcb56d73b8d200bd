"""What the files around a path say of it at one commit: under which licence it stands, and that it is not to be used.

**In**: a tree of a git repository, a path in it.
**Out**: the licence that its folders state (`corpus/licenses.py`), and the markers of who opts out.
**Not**: what a file says itself.

Between two commits hardly any folder changes, so what was found is kept by the name of the folder's tree.
"""

import functools
from collections.abc import Iterator
from pathlib import PurePosixPath

import pygit2

from codegemma.corpus.licenses import MAX_STATEMENT_BYTES, FolderLicenses, speaks_of_license
from codegemma.corpus.opt_out import MARKER

_KEPT_TREES = 4096
_KEPT_LICENSES = 64
_LICENSES_FOLDER = "LICENSES"  # where REUSE keeps the texts
_Found = tuple[tuple[str, str], ...]


class Statements:
    """Looks around paths in the trees of one repository."""

    def __init__(self, repository: pygit2.Repository) -> None:
        self._repository = repository
        self._list = functools.lru_cache(_KEPT_TREES)(self._list_tree)
        self._read = functools.lru_cache(_KEPT_LICENSES)(self._read_licenses)

    def find_license(self, tree: pygit2.Tree, path: str) -> str | None:
        """Find the licence that the nearest folder of a path states."""
        spoken = tuple(found for found in self._look_around(tree, path) if not found[0].endswith(MARKER))
        return self._read(spoken).find(path) if spoken else None

    def find_markers(self, tree: pygit2.Tree, path: str) -> list[str]:
        """Find the markers in the folders of a path by which somebody opts out."""
        return [name for name, _ in self._look_around(tree, path) if name.rpartition("/")[2] == MARKER]

    def _look_around(self, tree: pygit2.Tree, path: str) -> Iterator[tuple[str, str]]:
        """List what speaks in the folders of a path, from the top: paths and blobs."""
        folder, prefix = tree, ""
        for part in (*PurePosixPath(path).parts[:-1], None):
            yield from ((prefix + name, blob) for name, blob in self._list(str(folder.id)))
            if part is None or part not in folder or not isinstance(inner := folder / part, pygit2.Tree):
                return
            folder, prefix = inner, f"{prefix}{part}/"

    def _list_tree(self, tree_id: str) -> _Found:
        tree = self._repository[tree_id]
        return tuple(self._list_speaking(tree, "")) if isinstance(tree, pygit2.Tree) else ()

    def _list_speaking(self, tree: pygit2.Tree, prefix: str) -> Iterator[tuple[str, str]]:
        for child in tree:
            name = (child.raw_name or b"").decode("utf-8", "replace")
            if isinstance(child, pygit2.Tree):
                if name == _LICENSES_FOLDER and not prefix:
                    yield from self._list_speaking(child, f"{name}/")
            elif isinstance(child, pygit2.Blob) and (name == MARKER or speaks_of_license(prefix + name)):
                yield prefix + name, str(child.id)

    def _read_licenses(self, spoken: _Found) -> FolderLicenses:
        folders = FolderLicenses()
        for path, blob in spoken:
            _, content = self._repository.odb.read(blob)
            folders.add(path, content[:MAX_STATEMENT_BYTES].decode("utf-8", "replace"))
        return folders
