"""`codegemma chat`: talk with a model in the terminal.

**In**: a model or the address of a server; messages, typed or from a pipe.
**Out**: answers, streamed; on a pipe the answer and nothing else.
**Not**: what is said, attached and run (`serve/terminal/`).
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codegemma.cli.options import engine_option
from codegemma.errors import MissingExtraError

if TYPE_CHECKING:
    from codegemma.serve.terminal.speakers import Speaker
    from codegemma.serve.terminal.talk import Talk


@click.command(short_help="Talk with a model in the terminal.")
@click.argument("model", metavar="MODEL|URL")
@click.argument("message", required=False)
@click.option("--system", default="", help="What the model is told before the conversation.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=1024, show_default=True, help="Longest answer.")
@click.option(
    "--temperature", type=click.FloatRange(0, 2), default=0.7, show_default=True, help="0: the most probable."
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed draws the same answers.")
@click.option("--api-key", envvar="CODEGEMMA_API_KEY", help="Key of a server, best by CODEGEMMA_API_KEY.")
@click.option("--unsafe", is_flag=True, help="Let /run run programs without a sandbox.")
@engine_option
def command(  # noqa: PLR0913, PLR0917
    model: str,
    message: str | None,
    system: str,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    api_key: str | None,
    unsafe: bool,
    engine_name: str,
) -> None:
    """Talk with MODEL, a folder, a file or a hub id, or with the server at URL. `/help` in it tells the commands.

    With MESSAGE, or a message on standard input, one answer is printed; where both are there, the input is attached.

    \b
    Example:
      codegemma chat my-model/model
      codegemma chat http://127.0.0.1:8012 --system "Be brief."
      git diff | codegemma chat my-model/model "What does this change?"
    """
    try:
        from codegemma.sandbox.box import Safety, Sandbox
        from codegemma.serve.terminal.screen import Screen
        from codegemma.serve.terminal.talk import Talk
    except ImportError as error:
        raise MissingExtraError(f"chat needs {error.name}: install codegemma[serve,sandbox]") from error

    speaker = open_speaker(model, engine_name, temperature, seed, max_new_tokens, api_key)
    safety = Safety.UNSAFE if unsafe else Safety.BOXED
    talk = Talk(speaker, Screen(), lambda: Sandbox(1, safety), Path.cwd(), system)
    try:
        if message is not None or not sys.stdin.isatty():
            say_once(talk, message)
        else:
            say_on(talk, speaker.name)
    finally:
        talk.close()


def open_speaker(
    model: str, engine_name: str, temperature: float, seed: int, max_new_tokens: int, api_key: str | None
) -> "Speaker":
    """Open the model, or take the address."""
    from codegemma.serve.terminal.speakers import LocalSpeaker, RemoteSpeaker

    if model.startswith(("http://", "https://")):
        return RemoteSpeaker(model, api_key, temperature, max_new_tokens)
    from codegemma.engine.choose import open_model
    from codegemma.model.hub import locate_model
    from codegemma.records import Sampling

    generator = open_model(locate_model(model), engine_name, lambda said: click.echo(said, err=True))
    return LocalSpeaker(generator, Sampling(temperature=temperature, seed=seed), max_new_tokens)


def say_once(talk: "Talk", message: str | None) -> None:
    """Answer one message; what comes through a pipe is attached to it, or is it."""
    from codegemma.serve.terminal.attachments import quote

    piped = "" if sys.stdin.isatty() else sys.stdin.read()
    if message is not None and piped.strip():
        talk.conversation.attached.append(quote(piped, "standard input", ""))
    text = piped if message is None else message
    if not text.strip():
        raise click.UsageError("nothing was said: give a MESSAGE, or one on standard input")
    talk.answer_once(text)


def say_on(talk: "Talk", name: str) -> None:
    """Talk until the person leaves."""
    from codegemma.serve.terminal.editor import open_editor

    click.echo(f"{name}. /help tells what can be done here, Ctrl+D leaves.")
    editor = open_editor()
    is_on = True
    while is_on:
        try:
            is_on = talk.take(editor.prompt())
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
