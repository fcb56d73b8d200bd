"""What tuning rehearses where nobody names code of their own: the packages that the shipped base learned from.

**In**: what is installed here.
**Out**: a data folder, built once.
**Not**: a corpus that stands for all code: who tunes for something else gives `--data`.
"""

import sysconfig
from pathlib import Path

from codegemma.build import build_data
from codegemma.evals.heldout_suite import HELDOUT_FILE
from codegemma.recipes import Recipe, tiny_base
from codegemma.runner import LocalRunner, Progress, ignore_progress

# Of this Python's own library, which the base never saw: ordinary code of many hands.
_STANDARD = ("asyncio", "collections", "concurrent", "email", "html", "http", "importlib", "json", "logging",
             "multiprocessing", "unittest", "urllib", "wsgiref", "xml", "zoneinfo")  # fmt: skip


def list_library() -> list[Path]:
    """List the folders of the packages: about 30 MB, seen less than once in a tuning, where all are installed."""
    standard = Path(sysconfig.get_path("stdlib"))
    packages = tiny_base.list_folders()
    return [*(standard / name for name in _STANDARD), *(packages[n] for n in tiny_base.REHEARSED if n in packages)]


def build_library(data: Path, recipe: Recipe, on_progress: Progress = ignore_progress) -> Path:
    """Build packs of them, unless they are there.

    Raises:
        OutputError: the folder cannot be written, or holds something else.
    """
    if not (data / HELDOUT_FILE).exists():
        build_data(list_library(), data, recipe, LocalRunner(), on_progress)
    return data
