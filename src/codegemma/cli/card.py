"""`codegemma card`: the model card's table with our figures beside the published ones, or the card of a model.

**In**: results of evaluations; or a model folder.
**Out**: Markdown on standard output, or in the file that is named.
**Not**: measuring; `codegemma evaluate` does.
"""

from pathlib import Path

import click

from codegemma.cli.options import LOCAL
from codegemma.errors import InputError


@click.command(
    epilog="""\b
Examples:
  codegemma card figures
  codegemma card figures --profile codegemma-2024
  codegemma card my-model/model --data my-model/data --results figures --out my-model/model/README.md"""
)
@click.argument("places", nargs=-1, required=True, type=LOCAL, metavar="RESULTS...|MODEL")
@click.option("--profile", help="codegemma-2024: also tell where the results depart from how the card was measured.")
@click.option("--results", multiple=True, type=LOCAL, help="Of MODEL's evaluations; may be repeated.")
@click.option("--data", type=LOCAL, help="Folder of `codegemma build` that MODEL learned from.")
@click.option(
    "--ratings", type=LOCAL, help="Folder of `codegemma rate`, whose --summary people's ratings of MODEL have."
)
@click.option("--out", type=LOCAL, help="File to write [default: standard output].")
def command(
    places: tuple[Path, ...],
    profile: str | None,
    results: tuple[Path, ...],
    data: Path | None,
    ratings: Path | None,
    out: Path | None,
) -> None:
    """Print the card's table for RESULTS, or the card of MODEL.

    RESULTS are folders that `codegemma evaluate` wrote. A benchmark that was not run says so. MODEL is a model folder:
    its card has every section of CodeGemma's, each from what is on disk, and "not measured" where nothing is.
    """
    from codegemma.evals.card import check_profile, check_profile_name, fill_card, spell_card
    from codegemma.evals.results import read_results
    from codegemma.files import write_whole
    from codegemma.model_card import gather_evidence, write_card
    from codegemma.rating.summary import read_summary

    if profile is not None:
        check_profile_name(profile)
    notes: list[str] = []
    if len(places) == 1 and (places[0] / "config.json").is_file():
        if profile is not None:
            raise InputError(f"{places[0]} is a model; --profile belongs to results: codegemma card RESULTS --profile")
        rated = read_summary(ratings) if ratings is not None else None
        text = write_card(gather_evidence(places[0], data, [read_results(r) for r in results], ratings=rated))
    elif results or data is not None or ratings is not None:
        raise InputError(f"{places[0]} is no model folder; --results, --data and --ratings belong to one")
    else:
        found = [read_results(place) for place in places]
        rows = fill_card(found)
        text = spell_card(rows)
        notes = check_profile(found, rows) if profile else []
    if out is not None:
        write_whole(out, text.encode())
    else:
        click.echo(text, nl=False)
    for note in notes:
        click.echo(f"- {note}", err=True)
