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
  codegemma convert my-model/model exported --to orbax
  codegemma convert google/codegemma-2b merged --to hf --adapter my-lora
  codegemma convert my-model/model for-llama-cpp --to gguf --dtype int4

\b
K-quants, which this does not write, are made by llama.cpp from a file in bf16:
  codegemma convert my-model/model exported --to gguf --dtype bf16
  llama-quantize exported/model.gguf model-Q4_K_M.gguf Q4_K_M"""
)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST", type=click.Path(path_type=Path))
@click.option(
    "--to",
    required=True,
    metavar="FORMAT",
    help="hf, flax (Kaggle's layout), orbax, gguf (llama.cpp), or qwix (our integers).",
)
@click.option(
    "--dtype",
    metavar="TYPE",
    help="bf16 or f32; in gguf also f16, int8 (Q8_0) and int4 (Q4_0); in qwix int8 or int4 "
    "[default: as in SRC, bit for bit].",
)
@click.option("--adapter", help="LoRA adapter (a folder as PEFT writes it, or a hub id) to merge into SRC, its base.")
@json_option
def command(source: str, target: Path, to: str, dtype: str | None, adapter: str | None, as_json: bool) -> None:
    """Write the model SRC into the folder DST as another format.

    SRC is a folder or file of any format that is read: Hugging Face's safetensors, PyTorch checkpoints (read without
    running what is in them), Kaggle's Flax folders, a run's checkpoints; or an id of the Hugging Face hub. An adapter's
    folder is merged into the base that it names, in the base's type unless --dtype says another.
    """
    from codegemma.model.hub import locate_model
    from codegemma.model.write import check_target, convert

    check_target(target)  # before a download
    place = locate_model(source)
    weights = convert(place, target, to, dtype, None if adapter is None else locate_model(adapter))
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
    quoted = shlex.quote(str(target))
    is_gguf = to == "gguf"
    click.echo(
        f"next: llama-server --model {quoted}/model.gguf"
        if is_gguf
        else f"next: codegemma complete {quoted} FILE:LINE:COLUMN"
    )
