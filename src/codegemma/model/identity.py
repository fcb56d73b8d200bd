"""Names a model by all its bytes, so that what it once answered may be taken for its answer.

**In**: a model's file or folder.
**Out**: a hash; equal where the files are, wherever they lie and whatever their times.
**Not**: a signature: the hash is fast (some GB a second), not hard to forge.
"""

from pathlib import Path

import xxhash

from codegemma.folders import walk_visible

_READ_BYTES = 1 << 22


def list_model_files(place: Path) -> list[tuple[str, Path]]:
    """List what makes a model, in order, by names within it: all but its card. A file alone has no name in itself."""
    return [("", place)] if place.is_file() else [f for f in walk_visible(place) if not f[0].endswith(".md")]


def hash_files(place: Path) -> str:
    """Hash the names and contents of a model's files."""
    digest = xxhash.xxh3_128()
    for name, file in list_model_files(place):
        digest.update(f"\0{name}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
        with file.open("rb") as content:
            while piece := content.read(_READ_BYTES):
                digest.update(piece)
    return digest.hexdigest()
