"""Runs a verb in this process, as the command line does."""

from typing import NamedTuple


class Ran(NamedTuple):
    code: int
    out: str
    err: str
