"""Copies a trained base into the package, with its manifest and model card, all read from what the runs wrote.

    python tools/ship_base.py --run runs/base-1 --run runs/base --data runs/base-data --figures runs/base-figures

The commands that make the three folders stand on top of `src/codegemma/recipes/tiny_base.py`. `--data` is the folder of
`codegemma build`, `--figures` that of `codegemma evaluate --suite heldout`.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from codegemma.adapt import BASES
from codegemma.corpus.report import read_manifest
from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.weights import describe_model
from codegemma.recipes.tiny_base import list_packages

MAX_BYTES = 8 * 2**20
FILES = ("config.json", "model.safetensors", "tokenizer.json")


def describe_run(run: Path) -> dict[str, Any]:
    """Read what a run was from what it wrote."""
    about = json.loads((run / "model/run.json").read_text())
    return {key: about[key] for key in ("recipe", "total_steps", "threads", "device", "jax_version", "result")}


def make_manifest(runs: list[Path], data: Path, figures: Path) -> dict[str, Any]:
    """Gather where the base comes from; the last run is the one that ships."""
    corpus = read_manifest(data)
    if corpus is None:
        raise InputError(f"{data} holds no whole build")
    results = json.loads((figures / "results.json").read_text())
    command = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return {
        "name": "tiny",
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit,
        "packages": list_packages(),
        "not_among_them": ["jax (the demo's repository)", "scipy (the demo's control)", "the standard library"],
        "corpus": {
            "fingerprint": corpus.fingerprint,
            "files_train": corpus.files_train,
            "files_heldout": corpus.files_heldout,
            "bytes_train": corpus.bytes_train,
            "dropped": [[d.stage, d.reason, d.files] for d in corpus.dropped],
        },
        "runs": [describe_run(run) for run in runs],
        "heldout": [
            {key: m[key] for key in ("system", "kind", "mode", "metric", "interval")}
            for suite in results["suites"]
            for m in suite["measurements"]
        ],
        "sha256": {name: hashlib.sha256((runs[-1] / "model" / name).read_bytes()).hexdigest() for name in FILES},
    }


def format_card(manifest: dict[str, Any], config: GemmaConfig) -> str:
    """Write the model card."""
    runs, corpus = manifest["runs"], manifest["corpus"]
    rows = []
    for kind, mode in dict.fromkeys((m["kind"], m["mode"]) for m in manifest["heldout"] if m["system"] == "model"):
        found = {
            m["metric"]: m["interval"]
            for m in manifest["heldout"]
            if (m["system"], m["kind"], m["mode"]) == ("model", kind, mode)
        }
        match, bits = found["exact_match"], found["bits_per_byte"]
        rows.append(
            f"| {kind.replace('_', ' ')} | {mode.upper()} | {match['items']} | {100 * match['mean']:.1f} "
            f"({100 * match['low']:.1f} to {100 * match['high']:.1f}) | {bits['mean']:.3f} |"
        )
    length = "; then from there ".join(
        f"{run['total_steps']:,} steps, {run['result']['tokens']:,} tokens "
        f"in {run['result']['seconds'] / 60:.0f} minutes"
        for run in runs
    )
    feed = runs[-1]["recipe"]["feed"]
    share, spm_share, spm_mode = feed["infill_share"], feed["spm_share"], feed["spm_mode"].upper()
    packages = "\n".join(f"| {p['name']} | {p['version']} | {p['license']} |" for p in manifest["packages"])
    return f"""# The shipped base: `tiny`

A Gemma 1 network of {config.count_parameters():,} parameters for infilling Python, trained from random parameters by
`recipes/tiny_base.py`. It is where `codegemma adapt --recipe tiny` starts. It is not derived from Google's weights.

**Intended use.** A starting point that a CPU adapts to a repository in minutes; demonstrations and tests. **Not** for
completing code as it is: it is small, its window is {config.max_positions} tokens, and it knows Python only.

## Training

On {runs[-1]["threads"]} CPU threads: {length}.
{corpus["files_train"]:,} files, {corpus["bytes_train"] / 1e6:.0f} MB; {corpus["files_heldout"]:,} files held out.
{share:.0%} of pieces with a hole, {spm_share:.0%} of those in {spm_mode}, the others in PSM.
`manifest.json` has the recipe, the corpus's fingerprint, what was dropped and why.

The corpus is the Python code of these packages, read as installed. Not among them:
{", ".join(manifest["not_among_them"])}.

| package | version | licence |
|---|---|---|
{packages}

## Measured

On held-out directories of the same packages; exact match and bits per byte of the middle by teacher forcing, intervals
95 % by bootstrap over files.

| hole | mode | holes | exact match, % | bits per byte |
|---|---|---|---|---|
{chr(10).join(rows)}

## Limits

It repeats the idioms of its packages and invents names. Secrets were filtered by rules before training; personal data
(authors' names in headers) was not. Not measured: other languages, execution of what it writes, memorisation, bias.
"""


def main() -> int:
    """Ship the base."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, action="append", help="A run; the last given one ships.")
    for name in ("data", "figures"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    manifest = make_manifest(arguments.run, arguments.data, arguments.figures)
    config = describe_model(arguments.run[-1] / "model")
    target = BASES / "tiny"
    target.mkdir(parents=True, exist_ok=True)
    for name in (*FILES, "run.json"):
        shutil.copy(arguments.run[-1] / "model" / name, target / name)
    (target / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    (target / "README.md").write_text(format_card(manifest, config))
    size = sum(file.stat().st_size for file in target.iterdir())
    if size > MAX_BYTES:
        raise InputError(f"{target} has {size:,} bytes; at most {MAX_BYTES:,} ship")
    print(f"{target}: {size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
