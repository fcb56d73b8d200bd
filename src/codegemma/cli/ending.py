"""How the command line ends: what an error says, and which exit code it becomes.

**In**: what a verb raised.
**Out**: the exit code: 0 done, 1 failed, 2 wrong usage, 3 unusable input, 4 unwritable output, 5 diverged, 130
interrupted, 143 told to end.
**Not**: the verbs.
"""

import traceback

import click

from codegemma.errors import UserError


def tell_error(error: BaseException) -> int:
    """Say on standard error what went wrong, without a traceback if a user can act on it, and return the exit code."""
    match error:
        case click.exceptions.Abort() | KeyboardInterrupt():
            click.echo("interrupted", err=True)
            return 130
        case click.ClickException():
            error.show()
            return error.exit_code
        case UserError():
            click.echo(f"codegemma: {error}", err=True)
            return error.exit_code
        case click.exceptions.Exit():
            return error.exit_code
        case SystemExit():
            return error.code if isinstance(error.code, int) else int(error.code is not None)
    traceback.print_exception(error)
    return 1
