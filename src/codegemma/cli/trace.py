"""`codegemma trace`: from a trained token back to its file.

**In**: a run, its data folder, a step, a row, a token.
**Out**: one token's origin; or, without a token, one JSON line for each piece of a file that the step read.
**Not**: searching for a text; this begins at a place in the training. Nothing is stored for it.
"""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codegemma.cli.options import check_run, json_option, replay_options
from codegemma.cli.progress import show_progress
from codegemma.recipe import to_plain

if TYPE_CHECKING:
    from codegemma.feed.trace import PieceOrigin, TextSpan, TokenOrigin
    from codegemma.train.provenance import Filters
    from codegemma.train.replay import Replay, ReplayedBatch


@click.command(short_help="From a trained token back to its file.")
@replay_options
@click.option("--step", required=True, type=int, help="The step of the run, counted from 1 as in metrics.jsonl.")
@click.option("--row", type=int, help="The row of the step's batch, counted from 0 [default: every row].")
@click.option("--token", type=int, help="The token of the row, counted from 0 [default: list whole pieces].")
@json_option
def command(  # noqa: PLR0917
    run: Path | None,
    data: Path | None,
    tokenizer: Path | None,
    step: int,
    row: int | None,
    token: int | None,
    as_json: bool,
) -> None:
    """Tell repository, file, line and licence of a token that RUN was trained on.

    RUN is the folder of `train` or `adapt`, or the model in it; without one, it is the folder around DATA. Without a
    token, every piece of a file that the step read is told, one JSON line each.

    \b
    Example:
      codegemma trace my-model --step 120 --row 1 --token 57
      codegemma trace run --data data --step 120 > read-at-120.jsonl
    """
    if token is not None and row is None:
        raise click.UsageError("--token counts in a row: name the row as well, with --row")
    check_run(run, data)

    from codegemma.build import lend_data
    from codegemma.feed.trace import list_batch, trace_token
    from codegemma.train.provenance import read_filters
    from codegemma.train.replay import open_replay

    with contextlib.ExitStack() as stack:
        on_progress = stack.enter_context(show_progress())
        packs = None if data is None else lend_data(data, on_progress)
        replay = stack.enter_context(open_replay(run, packs, tokenizer))
        batch = replay.find_batch(step, on_progress)
        if row is None or token is None:
            for piece in list_batch(replay.loader, batch.known, None if row is None else [row]):
                click.echo(json.dumps({"step": step, **to_plain(piece)}, ensure_ascii=False))
            if not batch.is_checked:
                click.echo(_tell_check(replay, batch), err=True)
            return
        origin = trace_token(replay.loader, batch.known, row, token)
        filters = read_filters(replay.files.data)
        if as_json:
            about = {"step": step, "is_checked": batch.is_checked, "filters": to_plain(filters)}
            click.echo(json.dumps(about | to_plain(origin), ensure_ascii=False))
            return
        _print_origin(step, origin, filters)
        click.echo(f"checked   {_tell_check(replay, batch)}")


def _tell_check(replay: "Replay", batch: "ReplayedBatch") -> str:
    if batch.is_checked:
        return "the batch recomputed here is the one that the run read"
    return f"no: {replay.files.run} holds no mark of step {batch.step} or later, so the versions here are trusted"


def _print_origin(step: int, origin: "TokenOrigin", filters: "Filters | None") -> None:
    spelled = json.dumps(origin.spelled, ensure_ascii=False)
    click.echo(f"token     {make_visible(spelled)}, id {origin.token_id}, step {step}, row {origin.row}")
    piece = origin.piece
    if piece is None:
        click.echo(f"part      {origin.part}: behind the last window of the row, nothing was trained on here")
        return
    mode = "no hole" if piece.mode is None else piece.mode.value
    click.echo(f"part      {origin.part}, in a piece with {mode}, loss weight {origin.loss_weight:g}")
    click.echo(f"file      {make_visible(piece.path)}{_tell_place(origin, piece)}")
    click.echo(f"repo      {make_visible(piece.repo)}, {_tell_commit(piece)}, blob {piece.blob}")
    click.echo(f"licence   {piece.license or 'none stated'}")
    click.echo(f"pack      {piece.pack_id}, segment {origin.segment}, position {origin.position}, epoch {piece.epoch}")
    here = f"{', '.join(origin.redactions)} in this line" if origin.redactions else "none in this line"
    click.echo(f"redacted  {here}, {len(piece.redactions)} in the file")
    click.echo(f"passed    {_tell_filters(filters)}")
    if origin.span is not None:
        _print_text(origin.span)


def _tell_commit(piece: "PieceOrigin") -> str:
    return "a plain folder" if piece.commit is None else f"commit {piece.commit}"


def _tell_place(origin: "TokenOrigin", piece: "PieceOrigin") -> str:
    lines = f"lines {piece.first_line} to {piece.last_line}"
    if origin.span is None:
        return f", {lines} (a token of the format)"
    if origin.part == "path":
        return f", {lines} (the path line before them)"
    return (
        f":{origin.span.line}:{origin.span.column}, characters {origin.span.start} to {origin.span.end}; piece {lines}"
    )


def _tell_filters(filters: "Filters | None") -> str:
    if filters is None:
        return "unknown: beside the packs stand no whole corpus.json and packs.json, and no filters.json"
    lists = "".join(f"\n          {make_visible(told)}" for told in filters.lists)
    builds = f"corpus {filters.corpus_fingerprint}, packs {filters.packs_fingerprint} ({filters.pack_order})"
    return f"{', '.join(filters.stages)}\n          {builds}{lists}"


def _print_text(span: "TextSpan") -> None:
    text = f"{span.before}»{span.text}«{span.after}"
    click.echo("")
    for line in text.split("\n"):
        click.echo(f"    {make_visible(line.removesuffix(chr(13)))}")
    click.echo("")


def make_visible(text: str) -> str:
    """Replace what a terminal would obey by pictures of it; code that was trained on is not trusted.

    >>> make_visible("a" + chr(27) + "[2J")
    'a␛[2J'
    """
    return "".join(
        chr(0x2400 + ord(c)) if ord(c) < 32 and c != "\t" else "␡" if c == "\x7f" else _hide(c) for c in text
    )


def _hide(char: str) -> str:
    # C1 controls, and marks that turn the direction of text around (CVE-2021-42574).
    is_obeyed = "\x80" <= char < "\xa0" or "\u202a" <= char <= "\u202e" or "\u2066" <= char <= "\u2069"
    return f"\\u{ord(char):04x}" if is_obeyed else char
