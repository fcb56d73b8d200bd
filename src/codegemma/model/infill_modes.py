"""Which orders of the parts a model knows.

**In**: a model folder.
**Out**: its `InfillMode`s, the one that suits it best first.
**Not**: how they are spelled; that is `text/infill_format.py`.
"""

import json
from pathlib import Path

from codegemma.errors import InputError
from codegemma.records import InfillMode

RUN_FILE = "run.json"
OFFICIAL_MODES = (InfillMode.PSM, InfillMode.SPM)


def read_infill_modes(folder: Path) -> tuple[InfillMode, ...]:
    """Tell which orders of the parts a model knows, the one that suits it best first.

    A model that was trained here says in its run file what it has seen, and an SPM suits it best; one that saw no hole
    is asked in PSM. Official weights have no run file and get PSM until SPM is shown to work on them.

    Raises:
        InputError: the run file does not tell.
    """
    file = folder / RUN_FILE
    try:
        modes = [InfillMode(mode) for mode in json.loads(file.read_text(encoding="utf-8"))["infill_modes"]]
    except FileNotFoundError:
        return OFFICIAL_MODES
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} does not tell which infill modes were trained ({error}); copy it again") from error
    return tuple(sorted(modes, key=lambda mode: mode is InfillMode.PSM)) or (InfillMode.PSM,)
