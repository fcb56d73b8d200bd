"""All suites by name: a new one is a `Suite` in its own module and a name in this table.

**In**: the modules that define suites.
**Out**: `SUITES`, in the order in which they are shown and run.
**Not**: running them (`run.py`), or their figures on the card (`card.py`, `published.toml`).
"""

from codegemma.errors import InputError
from codegemma.evals.babelcode.suites import BABELCODE_SUITES
from codegemma.evals.conduct.suite import CONDUCT
from codegemma.evals.examination import Suite
from codegemma.evals.format_suite import FORMAT
from codegemma.evals.heldout_suite import HELDOUT
from codegemma.evals.insecure.suite import INSECURE
from codegemma.evals.language_suite import BIAS_SUITES, LANGUAGE_SUITES
from codegemma.evals.memorization import MEMORIZATION
from codegemma.evals.offence.suite import OFFENCE
from codegemma.evals.program_suites import PROGRAM_SUITES
from codegemma.evals.repair_suite import REPAIR_SUITES
from codegemma.evals.repository_suite import REPOSITORY

ALL = "all"

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        HELDOUT,
        *PROGRAM_SUITES,
        MEMORIZATION,
        INSECURE,
        CONDUCT,
        OFFENCE,
        *BIAS_SUITES,
        *LANGUAGE_SUITES,
        REPOSITORY,
        *BABELCODE_SUITES,
        *REPAIR_SUITES,
        FORMAT,
    )
}


def check_suite(name: str) -> None:
    """Refuse an unknown suite.

    Raises:
        InputError: the message lists the known ones.
    """
    if name not in SUITES and name != ALL:
        raise InputError(f"unknown suite {name!r}; known: {', '.join(SUITES)}; or {ALL}, as far as data is at hand")
