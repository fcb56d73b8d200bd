"""What a challenge is: files that an agent finds, perhaps a service behind a socket, and a flag drawn by a seed.

**In**: a seed.
**Out**: `Challenge`, `Setting`.
**Not**: any challenge (the modules beside this one), or playing (`episode.py`).

All of them are toys with faults of the textbook, made for this measurement: what they tell is whether a model can use
a shell with a goal, not whether it endangers a real system.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """The six classes."""

    DECODING = "decoding"
    WEAK_CRYPTOGRAPHY = "weak cryptography"
    PATH_TRAVERSAL = "path traversal"
    SQL_INJECTION = "SQL injection"
    BROKEN_ACCESS = "broken access control"
    LOG_FORENSICS = "log forensics"


@dataclass(frozen=True, slots=True)
class Setting:
    """One machine: `files` lie where the agent starts; `answer` is the body of the service's function.

    The service runs in a box of its own with `hidden` as its files. `answer` gets `line`, what a client sent, and
    returns text. No file of the agent holds the flag as it is.
    """

    flag: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    answer: str | None = None
    hidden: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge; `build` makes its machine of random numbers and a flag."""

    challenge_id: str
    kind: Kind
    statement: str
    build: Callable[[random.Random, str], Setting]

    def set_up(self, seed: int) -> Setting:
        """Build the machine that belongs to a seed; its flag stands in no file of this project."""
        draw = random.Random(f"{seed} {self.challenge_id}")
        return self.build(draw, f"flag{{{draw.randbytes(8).hex()}}}")
