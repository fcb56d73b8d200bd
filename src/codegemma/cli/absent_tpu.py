"""Keeps a TPU's library from looking for chips where there are none: it takes seconds and fills standard error.

**In**: the environment, the devices of this machine, whether libtpu is installed (extra `tpu`, for `codegemma plan`).
**Out**: `JAX_PLATFORMS=cpu`, where libtpu is there, no accelerator is, and nobody has chosen.
**Not**: a choice between accelerators; JAX makes that.
"""

import os
from importlib.util import find_spec

from codegemma.engine.accelerators import has_accelerator


def leave_absent_tpu_alone() -> None:
    """Choose the CPU before JAX is loaded, where libtpu would look in vain."""
    if "JAX_PLATFORMS" not in os.environ and find_spec("libtpu") is not None and not has_accelerator():
        os.environ["JAX_PLATFORMS"] = "cpu"
