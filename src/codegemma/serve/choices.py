"""What somebody who runs a server may choose, each with the value that suits an editor.

**In**: nothing.
**Out**: `ServeChoices`, frozen; the command line fills it.
**Not**: what a single request asks for (`asks.py`).
"""

from dataclasses import dataclass

from codegemma.records import InfillMode


@dataclass(frozen=True, slots=True)
class ServeChoices:
    """Budgets are in tokens. `mode` forces an order of the parts; by default it is the one that suits the model best.

    `prefix_tokens` and `suffix_tokens` are what of the file is shown, `context_tokens` what of other files. The left
    edge moves `anchor_lines` lines at a time. In PSM, up to `folded_tokens` of typed text stand behind the suffix,
    where they cost nothing, before they are folded into the prefix. A cold prompt is made as short as the measured
    speed asks for, to be read within `cold_s`, but never below `least_tokens`. With `prepares_next` the rest is read
    while nobody asks, and so is written what would come after an acceptance.
    """

    mode: InfillMode | None = None
    has_healing: bool = True
    prefix_tokens: int = 3072
    suffix_tokens: int = 768
    context_tokens: int = 2048
    anchor_lines: int = 64
    folded_tokens: int = 256
    cold_s: float = 2.0
    least_tokens: int = 192
    max_sessions: int = 256
    max_body_bytes: int = 16 * 2**20
    max_new_tokens: int = 2048
    body_timeout_s: float = 20.0
    prepares_next: bool = True
    shows_prompts: bool = False
