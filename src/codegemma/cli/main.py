"""The command line: one verb per reach, each imported when it is called, so that help never loads JAX.

**In**: `sys.argv`.
**Out**: the exit code; `ending.py` has the list.
**Not**: logic. A verb wires parts; the parts are in the packages below.
"""

import importlib
import io
import sys
from collections.abc import Sequence

import click

import codegemma
from codegemma.cli.absent_tpu import leave_absent_tpu_alone
from codegemma.cli.ending import tell_error
from codegemma.cli.huge_pages import restart_with_huge_pages
from codegemma.errors import UserError

# verb -> one line for `codegemma --help`; the module is codegemma.cli.<verb> and its click command is `command`.
VERBS = {
    "adapt": "Turn repositories into a model that knows them, and prove it on held-out files.",
    "build": "Repositories to packs, with every dropped file and its reason.",
    "forget": "Remove a repository, or files of it, from a data folder, and keep it out.",
    "plan": "Will a training fit on these chips? Compiled without them.",
    "train": "Train on packs; killed and started again, it goes on where it was.",
    "synthesize": "Let a model write problems with solutions and tests; keep what stands every filter.",
    "instruct": "Conversations to tune on: mathematics, generated algebra, a repository's own history.",
    "align": "Tune a model to follow instructions: demonstrations, preferences, rewards from tests.",
    "runs": "Where runs stand, and how they compare; a page with their curves.",
    "convert": "Write a model as another format: Hugging Face, Flax, orbax, GGUF.",
    "complete": "Complete the code at a cursor.",
    "serve": "Serve a model to editors: llama.cpp, OpenAI, Ollama, Tabby and more protocols.",
    "lsp": "Serve a model to one editor, over a pipe: ghost text and menus by LSP.",
    "chat": "Talk with a model in the terminal: files, diffs and running code included.",
    "trace": "From a trained token back to its repository, file and line.",
    "freeze": "Write the rows that a training reads as token shards.",
    "evaluate": "Measure a model: held-out holes of a repository, benchmarks whose answers are run.",
    "rate": "Let people rate what models wrote, blind, on a page of this machine.",
    "toolchains": "The compilers that suites of programs need: which are here, and what installs the rest.",
    "compare": "Two evaluations item by item: what one answers and the other does not.",
    "ablate": "Which cuts, orders and packs learn most from the same tokens.",
    "card": "The model card's table with our figures, or a model's own card.",
}
# Those that train, and gain from huge pages.
TRAINING_VERBS = frozenset({"ablate", "adapt", "align", "train"})


class VerbGroup(click.Group):
    """A click group that imports a verb's module only when the verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """List the verbs in river order."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import `codegemma.cli.<verb>` and return its `command`."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"codegemma.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; of an unknown one say which are known, unless a shell asks to complete it."""
        if args[0] not in VERBS and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}; known: {', '.join(VERBS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Print the verbs from the table, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=VerbGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(codegemma.__version__, prog_name="codegemma")
def cli() -> None:
    """Turn code that no public model has seen into a model that knows it.

    \b
    Start here:
      codegemma adapt path/to/repo --out my-model
      codegemma complete my-model/model path/to/repo/file.py:12:8
    """


def refuse_empty(arguments: Sequence[str]) -> None:
    """Refuse an empty argument: as a path it would mean the working folder, and a shell variable was meant.

    Only `--path` may be empty: it is what the model sees, not a file.

    Raises:
        UsageError: the message says which argument.
    """
    before = ["", *arguments]
    for number, (option, argument) in enumerate(zip(before, arguments, strict=False), 1):
        name, equals, value = argument.partition("=")
        is_empty = not argument or (name.startswith("--") and equals and not value)
        if is_empty and "--path" not in (option, name):
            where = f"{option} " if option.startswith("--") else f"{name} " if name else f"argument {number} "
            raise click.UsageError(f"{where}is empty; wanted a value: perhaps a variable of the shell is not set")


def main() -> None:
    """Run the command line; errors that a user can act on are printed without a traceback."""
    if sys.argv[1:2] and sys.argv[1] in TRAINING_VERBS:
        restart_with_huge_pages()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path may hold what no encoding spells; an answer with an escape in it is better than none.
        sys.stdout.reconfigure(errors="backslashreplace")
    leave_absent_tpu_alone()
    try:
        refuse_empty(sys.argv[1:])
        exit_code = cli.main(standalone_mode=False)
    except (click.exceptions.Abort, click.ClickException, UserError) as error:
        sys.exit(tell_error(error))
    sys.exit(exit_code if isinstance(exit_code, int) else 0)
