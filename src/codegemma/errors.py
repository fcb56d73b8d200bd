"""Errors that a user can act on: what came, what was wanted, what to do. The CLI prints them without a traceback.

**In**: nothing.
**Out**: one class per exit code of the command line.
**Not**: programming errors; those keep their traceback.
"""


class UserError(Exception):
    """Something the user can fix. `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(UserError):
    """The input cannot be used: an empty repository, a cursor outside its file, a truncated model."""

    exit_code = 3


class DamagedError(InputError):
    """An input is there and holds nothing that can be read; beside others it is left out, and said to be."""


class OutputError(UserError):
    """The output cannot be written: no permission, no space, or a folder that holds something else."""

    exit_code = 4


class MissingExtraError(UserError):
    """What was asked for needs packages that are not installed; the message says which extra brings them."""

    exit_code = 2
