"""Chooses the adapter that completes a file by where the file lies, for editors that name no model.

**In**: folders with their adapters; a path as a client spells it.
**Out**: the adapter of the nearest folder above the file, or none.
**Not**: what a client asks for by name, which goes first (`service.py`), or links: paths are compared as they are.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from urllib.parse import unquote


class AdapterFolders:
    """Folders whose files an adapter knows. Relative paths are those of the `workspace`, where there is one."""

    def __init__(self, folders: Mapping[str, str] | None = None, workspace: str | None = None) -> None:
        """Take folders with the names of their adapters, all absolute."""
        self._folders = {PurePosixPath(folder): name for folder, name in (folders or {}).items()}
        self._workspace = None if workspace is None else PurePosixPath(workspace)

    def find(self, path: str) -> str | None:
        """Find the adapter of a file.

        >>> folders = AdapterFolders({"/work": "all", "/work/web": "web"}, workspace="/work/web")
        >>> [folders.find(path) for path in ("/work/web/a.ts", "file:///work/b.py", "a.ts", "/etc/c")]
        ['web', 'all', 'web', None]
        """
        if not self._folders:
            return None
        place = PurePosixPath(
            unquote("/" + path.removeprefix("file://").partition("/")[2])
            if path.startswith("file://")
            else path.replace("\\", "/")
        )
        if self._workspace is not None:
            place = self._workspace / place  # an absolute path stays what it is
        return next((self._folders[folder] for folder in place.parents if folder in self._folders), None)
