"""`codegemma complete`: the code at a cursor, streamed.

**In**: a model folder, a place in a file, other files to show the model.
**Out**: the completion on standard output and nothing else there; or one JSON object.
**Not**: trimming; the model's own end of the middle ends it.
"""

import json
import time
from pathlib import Path

import click

from codegemma.cli.options import engine_option, json_option, mode_option


@click.command(short_help="Complete the code at a cursor.")
@click.argument("model")
@click.argument("place", metavar="FILE:LINE:COLUMN")
@mode_option
@click.option(
    "--context", multiple=True, type=click.Path(path_type=Path), metavar="FILE", help="Another file to show the model."
)
@click.option("--path", help="The file's path as the model should see it [default: relative to its repository].")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=128, show_default=True, help="Longest answer.")
@click.option("--temperature", type=float, default=0.0, show_default=True, help="0 takes the most probable token.")
@click.option("--top-k", type=int, help="Draw from the K most probable tokens.")
@click.option("--top-p", type=float, help="Draw from the fewest tokens that share probability P.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed draws the same answer.")
@engine_option
@json_option
def command(  # noqa: PLR0913, PLR0917
    model: str,
    place: str,
    mode: str | None,
    context: tuple[Path, ...],
    path: str | None,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int,
    engine_name: str,
    as_json: bool,
) -> None:
    """Print what MODEL, a model folder or a hub id, writes at a place in a file. LINE and COLUMN count from 1.

    \b
    Example:
      codegemma complete my-model/model src/app.py:12:8
      codegemma complete my-model/model src/app.py:12:8 --context src/models.py --temperature 0.2
    """
    from codegemma.records import InfillMode, Neighbor, Request, Sampling
    from codegemma.text.cursor import read_cursor, read_text, spell_name, spell_path

    cursor = read_cursor(place)
    neighbors = tuple(Neighbor(spell_path(file), read_text(file)) for file in context)

    from codegemma.engine.choose import open_model
    from codegemma.engine.completer import GeneratorCompleter
    from codegemma.model.hub import locate_model

    started = time.perf_counter()
    engine = open_model(locate_model(model), engine_name, lambda said: click.echo(said, err=True))
    completer = GeneratorCompleter(engine)
    if mode is not None and mode not in engine.infill_modes:
        known = " and ".join(engine.infill_modes)
        click.echo(f"this model was trained in {known}; in {mode} it writes what it can", err=True)
    request = Request(
        prefix=cursor.prefix,
        suffix=cursor.suffix,
        path=cursor.path if path is None else spell_name(path),
        neighbors=neighbors,
        mode=engine.infill_modes[0] if mode is None else InfillMode(mode),
        max_new_tokens=max_new_tokens,
        sampling=Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed),
    )
    loaded = time.perf_counter()
    deltas = []
    for delta in completer.complete(request):
        deltas.append(delta)
        if not as_json:
            click.echo(delta.text, nl=False)
    if as_json:
        answer = {
            "text": "".join(d.text for d in deltas),
            "tokens": sum(len(d.token_ids) for d in deltas),
            "stop_reason": deltas[-1].stop_reason,
            "mode": request.mode,
            "path": request.path,
            "prompt_tokens": len(completer.build_prompt(request)),
            "load_s": round(loaded - started, 3),
            "answer_s": round(time.perf_counter() - loaded, 3),
        }
        click.echo(json.dumps(answer, ensure_ascii=False))
