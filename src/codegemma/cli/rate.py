"""`codegemma rate`: a page on which people rate what models wrote, blind, and what their ratings say.

**In**: a campaign's file, a folder for ratings.
**Out**: a page on this machine until it is interrupted; with --summary, figures and the raters' agreement.
**Not**: answers; `codegemma evaluate` and others write them.
"""

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from codegemma.cli.options import LOCAL, json_option
from codegemma.errors import MissingExtraError

if TYPE_CHECKING:
    from codegemma.rating.campaign import Campaign
    from codegemma.rating.ratings import RatingStore
    from codegemma.rating.summary import Summary

DEFAULT_PORT = 8013


@click.command(
    short_help="Let people rate answers, blind; tell how far they agree.",
    epilog="""\b
Examples:
  codegemma rate campaign.toml --out ratings
  codegemma rate campaign.toml --out ratings --summary""",
)
@click.argument("campaign", type=LOCAL)
@click.option("--out", required=True, type=LOCAL, metavar="DIR", help="Where ratings go, and lie: ratings.jsonl.")
@click.option("--summary", is_flag=True, help="Print what the ratings say, instead of serving the page.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Beyond loopback the address has a key.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0: any free one.")
@json_option
def command(campaign: Path, out: Path, summary: bool, host: str, port: int, as_json: bool) -> None:
    """Serve the rating page of CAMPAIGN, or tell what was rated.

    CAMPAIGN is a TOML file: a title, a rubric, and one or two files of answers; of two, people see both side by side,
    left and right by chance, without names. Each line of ratings.jsonl is one rating, with the systems' names.
    """
    from codegemma.rating.campaign import read_campaign
    from codegemma.rating.ratings import RATINGS_FILE, RatingStore, read_ratings
    from codegemma.rating.summary import summarize

    chosen = read_campaign(campaign)
    if summary:
        file = out / RATINGS_FILE
        found = summarize(chosen, read_ratings(file) if file.exists() else [])
        tell_summary(found, out, as_json)
        return
    serve(chosen, RatingStore(out, chosen), host, port)


def tell_summary(found: "Summary", out: Path, as_json: bool) -> None:
    """Print a summary, and leave it beside the ratings for a model's card."""
    from codegemma.files import write_whole
    from codegemma.rating.summary import SUMMARY_FILE, spell_summary
    from codegemma.recipe import to_plain

    plain = json.dumps(to_plain(found), ensure_ascii=False, indent=1)
    if found.items:
        write_whole(out / SUMMARY_FILE, (plain + "\n").encode())
    if as_json:
        click.echo(plain)
        return
    for line in spell_summary(found):
        click.echo(line)


def serve(campaign: "Campaign", store: "RatingStore", host: str, port: int) -> None:
    """Serve the page until a signal comes."""
    try:
        import uvicorn

        from codegemma.rating.app import RatingApp
        from codegemma.serve.app import is_loopback
        from codegemma.serve.server import open_socket
    except ImportError as error:
        raise MissingExtraError(f"the rating page needs {error.name}: install codegemma[serve]") from error
    token = None if is_loopback(host) else secrets.token_urlsafe(24)
    app = RatingApp(campaign, store, token).build()
    with open_socket(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        key = f"#{token}" if token else ""
        click.echo(f"http://{shown}:{listener.getsockname()[1]}/{key}", err=True)
        # Ratings are on disk before they are answered, so that nothing is lost when a page is still open.
        config = uvicorn.Config(
            app, ws="none", lifespan="off", access_log=False, log_level="warning", timeout_graceful_shutdown=2
        )
        uvicorn.Server(config).run(sockets=[listener])
