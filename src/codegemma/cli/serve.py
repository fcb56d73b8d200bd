"""`codegemma serve`: a model behind the doors of every editor plugin.

**In**: a model, an address, keys, a workspace.
**Out**: a server on this machine, until it is interrupted.
**Not**: what the doors do (`serve/`), or how answers are computed (`engine/`).
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codegemma.cli.options import engine_option, mode_option
from codegemma.errors import InputError, MissingExtraError
from codegemma.files import find_state_folder

if TYPE_CHECKING:
    from codegemma.engine.choose import Tell
    from codegemma.serve.choices import ServeChoices
    from codegemma.serve.keys import KeyRing
    from codegemma.serve.service import Service

DEFAULT_PORT = 8012  # llama.vim's own


@click.command(short_help="Serve a model to editors.")
@click.argument("model", required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address; beyond loopback only with keys.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0: any free one.")
@click.option("--api-key-file", type=click.Path(path_type=Path, dir_okay=False), help="Who may ask; see --new-key.")
@click.option("--new-key", metavar="NAME", help="Add a key to --api-key-file, print it once, and end.")
@click.option(
    "--workspace",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder whose files explain each other: imports and tests in it are followed.",
)
@click.option("--adapter", "adapters", multiple=True, metavar="NAME=PATH", help="A LoRA over MODEL; may be repeated.")
@click.option(
    "--adapter-for", "owners", multiple=True, metavar="NAME=FOLDER", help="Complete the files of FOLDER with NAME."
)
@engine_option
@mode_option
@click.option("--debug-prompts", is_flag=True, help="Show layout and timings of the last requests at /status.")
@click.option(
    "--policy", type=click.Path(path_type=Path, dir_okay=False), help="A teacher's rules, TOML; see docs/tutor.md."
)
@click.option(
    "--progress",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where learners' attempts and hints are kept [default: with --policy, a file of your own].",
)
@click.option("--no-run", is_flag=True, help="Run no programs of conversations and exercises.")
def command(  # noqa: PLR0913, PLR0917
    model: str | None,
    host: str,
    port: int,
    api_key_file: Path | None,
    new_key: str | None,
    workspace: Path | None,
    adapters: tuple[str, ...],
    owners: tuple[str, ...],
    engine_name: str,
    mode: str | None,
    debug_prompts: bool,
    policy: Path | None,
    progress: Path | None,
    no_run: bool,
) -> None:
    """Serve MODEL, a model folder, a file or a hub id, to the editors people already use, and
    to a browser: its address shows chat and tutor.

    \b
    Example:
      codegemma serve my-model/model --workspace path/to/repo
      codegemma serve --new-key laptop --api-key-file keys
    """
    if new_key is not None:
        make_key(api_key_file, new_key)
        return
    if model is None:
        raise click.UsageError("which model? Name a folder, a file or a hub id")
    try:
        from codegemma.serve.adapter_folders import AdapterFolders
        from codegemma.serve.app import Gate, is_loopback, make_app
        from codegemma.serve.bench import Bench
        from codegemma.serve.choices import ServeChoices
        from codegemma.serve.doors import DOORS
        from codegemma.serve.server import Server, open_socket
        from codegemma.serve.tutor.ledger import Ledger
        from codegemma.serve.tutor.policy import read_policy
    except ImportError as error:
        raise MissingExtraError(f"serving needs {error.name}: install codegemma[serve]") from error
    from codegemma.records import InfillMode

    keys = load_keys(api_key_file)
    if not is_loopback(host) and not keys.is_needed:
        raise InputError(f"{host} is reached from other machines: give --api-key-file, made by --new-key NAME")
    named = parse_adapters(adapters)
    folders = AdapterFolders(parse_owners(owners, named), None if workspace is None else workspace.resolve().as_posix())
    choices = ServeChoices(mode=InfillMode(mode) if mode else None, shows_prompts=debug_prompts)
    rules = None if policy is None else read_policy(policy)
    kept = progress or (policy and name_progress(policy))
    more = {"bench": Bench(is_on=not no_run), "policy": rules, "ledger": Ledger(kept), "adapter_folders": folders}
    if kept is not None:
        click.echo(f"progress of learners is kept in {kept}", err=True)
    gate = Gate(choices, keys)
    with open_socket(host, port) as listener:
        click.echo(f"http://{host}:{listener.getsockname()[1]} (loading {model})", err=True)
        server = Server(make_app(gate, DOORS), gate, listener)

        def tell(said: str) -> None:
            click.echo(said, err=True)
            gate.doing = said

        server.run(lambda: open_service(model, engine_name, named, workspace, choices, tell, more), tell)


def tell_standard_error(said: str) -> None:
    """Say how far the start is."""
    click.echo(said, err=True)


def make_key(file: Path | None, name: str) -> None:
    """Add a key and print it: it is not kept."""
    from codegemma.serve.keys import add_key

    if file is None:
        raise click.UsageError("where are the keys? Name a file with --api-key-file")
    click.echo(add_key(file, name))


def load_keys(file: Path | None) -> "KeyRing":
    """Read the keys, if there are any."""
    from codegemma.serve.keys import KeyRing, read_keys

    return KeyRing() if file is None else read_keys(file)


def name_progress(policy: Path) -> Path:
    """Name the file in which a class is kept: where hints hang on attempts, a restart must not give new ones."""
    name = hashlib.sha256(str(policy.resolve()).encode()).hexdigest()[:8]
    return find_state_folder() / f"progress-{policy.stem}-{name}.sqlite"


def parse_adapters(adapters: tuple[str, ...]) -> dict[str, Path]:
    """Read `NAME=PATH`."""
    named: dict[str, Path] = {}
    for adapter in adapters:
        name, equals, path = adapter.partition("=")
        if not equals or not name or not path or name in named:
            raise click.UsageError(f"--adapter {adapter}: wanted NAME=PATH, each name once")
        named[name] = Path(path)
    return named


def parse_owners(owners: tuple[str, ...], adapters: Mapping[str, Path]) -> dict[str, str]:
    """Read `NAME=FOLDER` into adapters by folder; a folder has one, an adapter may have several."""
    folders: dict[str, str] = {}
    for owner in owners:
        name, _, folder = owner.partition("=")
        if name not in adapters:
            known = ", ".join(adapters) or "none"
            raise click.UsageError(f"--adapter-for {owner}: no adapter {name!r}; --adapter names {known}")
        if not folder or not Path(folder).is_dir():
            raise click.UsageError(f"--adapter-for {owner}: {folder or 'nothing'} is no folder; wanted NAME=FOLDER")
        place = Path(folder).resolve().as_posix()
        if folders.setdefault(place, name) != name:
            raise click.UsageError(f"--adapter-for {owner}: {folder} has {folders[place]!r} already")
    return folders


def open_service(  # noqa: PLR0917
    model: str,
    wanted: str,
    adapters: dict[str, Path],
    folder: Path | None,
    choices: "ServeChoices",
    tell: "Tell" = tell_standard_error,
    more: dict[str, Any] | None = None,
) -> "Service":
    """Open the model, and begin to read the folder of the files that will be completed."""
    from codegemma.engine.choose import choose_engine, open_generator
    from codegemma.model.hub import locate_model
    from codegemma.serve.context import ContextSource
    from codegemma.serve.service import Service

    workspace = None
    if folder is not None:
        from codegemma.serve.workspace import Workspace

        workspace = Workspace(folder)
        workspace.start()
    place = locate_model(model)
    engine, reason = choose_engine(place, wanted, adapters)
    tell(f"{engine}: {reason}")
    generator = open_generator(place, engine, adapters, tell)
    return Service(generator, choices, ContextSource(workspace), tuple(adapters), **(more or {}))
