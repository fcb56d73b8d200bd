"""`codegemma convert`: a model from one format to another, bit for bit unless another type is asked for.

**In**: a model of any format, or a hub id; a folder; the format to write.
**Out**: the folder, with tokenizer, lineage and terms; one line of what was done, or one JSON object.
**Not**: the formats; they are in `model/formats/`.
"""

import json
import shlex
from pathlib import Path

import click

from codegemma.cli.options import json_option


@click.command(
    epilog="""\b
Examples:
  codegemma convert google/codegemma-2b codegemma-2b --to flax
  codegemma convert codegemma-2b.ckpt codegemma-2b --to hf --dtype f32
  codegemma convert my-model/model exported --to orbax"""
)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST", type=click.Path(path_type=Path))
@click.option("--to", required=True, metavar="FORMAT", help="hf, flax (Kaggle's layout) or orbax.")
@click.option("--dtype", metavar="TYPE", help="bf16, f16 or f32 [default: as in SRC, bit for bit].")
@json_option
def command(source: str, target: Path, to: str, dtype: str | None, as_json: bool) -> None:
    """Write the model SRC into the folder DST as another format.

    SRC is a folder or file of any format that is read: Hugging Face's safetensors, PyTorch checkpoints (read without
    running what is in them), Kaggle's Flax folders, a run's checkpoints; or an id of the Hugging Face hub.
    """
    from codegemma.model.hub import locate_model
    from codegemma.model.write import convert

    place = locate_model(source)
    weights = convert(place, target, to, dtype)
    if as_json:
        about: dict[str, object] = {
            "source": str(place),
            "source_format": weights.format,
            "source_dtype": str(weights.dtype),
        }
        about |= {"target": str(target), "format": to, "parameters": weights.config.count_parameters()}
        click.echo(json.dumps(about, ensure_ascii=False))
        return
    click.echo(f"{weights.config.count_parameters():,} parameters, {weights.format} in {weights.dtype} -> {to}")
    click.echo(f"next: codegemma complete {shlex.quote(str(target))} FILE:LINE:COLUMN")
