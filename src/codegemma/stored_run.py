"""A run whose `--out` is an address in a store: made in a work folder, published whole after each checkpoint.

**In**: the address, the work folder.
**Out**: the run at the address, as builds are published (`published.py`): objects named by their content, and last the
manifest, so that what stands there is the run as it was after one checkpoint; at the end the model under plain names.
Back: a work folder on another machine, which goes on from there.
**Not**: a lock in the store. Of several processes the leader publishes, from a work folder that all of them see.

Orbax could write to some stores itself. It would do so by other libraries than the rest of this project, with other
credentials and settings, commit without a rename, and leave metrics and samples behind.
"""

import logging
import shutil
from pathlib import Path

from codegemma.errors import UserError
from codegemma.folders import claim_folder, walk_visible
from codegemma.places import is_remote, put_file
from codegemma.published import choose_work_folder, is_current, publish_folder, read_publication, take_up

_MODEL_FOLDER = "model"

_log = logging.getLogger(__name__)


def choose_run_folder(out: Path, parent: Path | None = None) -> Path:
    """Name the folder of this machine in which a run for `out` is made: `out` itself unless it is an address."""
    return choose_work_folder(out, parent) if is_remote(out) else out


def take_up_run(out: Path, work: Path) -> Path:
    """Make the work folder hold the run that is published at an address, if it does not already; return the folder.

    Where this machine has saved since it last published, it goes on from its own.

    Raises:
        OutputError: something else lies at the address.
        InputError: the store does not answer, or an object of the run is missing.
    """
    if not is_remote(out):
        return work
    claim_folder(out)
    publication = read_publication(out)
    names = () if publication is None else tuple(file.name for file in publication.files)
    if not is_current(work, publication):
        # Checkpoints of this machine's that nobody has published are from before what another has.
        for folder in ("checkpoints", _MODEL_FOLDER, "tensorboard"):
            shutil.rmtree(work / folder, ignore_errors=True)
    take_up(work, out, publication, results=(), state=names)
    return work


def publish_run(work: Path, out: Path, is_last: bool) -> None:
    """Publish what stands in the work folder. A store that does not answer is tried again after the next checkpoint.

    A finished model is put there under its own names as well, for whoever loads it.

    Raises:
        OutputError: it was the last time, and the store did not take it.
        InputError: the same, where the store could not even be listed.
    """
    try:
        if (work / _MODEL_FOLDER).is_dir():
            for name, file in walk_visible(work / _MODEL_FOLDER):
                put_file(out / _MODEL_FOLDER / name, file)
        publish_folder(work, out, choices="run")
    except UserError as error:
        if is_last:
            raise
        _log.warning("%s; training goes on, and publishes again after the next checkpoint", error)
