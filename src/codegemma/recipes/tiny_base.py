"""The small base that ships with the project: general Python, learned from permissively licensed packages.

    python -m codegemma.recipes.tiny_base --list                      # the packages and their licences
    codegemma build $(python -m codegemma.recipes.tiny_base --folders) --out runs/base-data
    codegemma train --data runs/base-data --out runs/base --recipe tiny_base
    codegemma evaluate runs/base/model --suite heldout --data runs/base-data --out runs/base-figures
    python tools/ship_base.py --run runs/base --data runs/base-data --figures runs/base-figures

Two million parameters: it fits in 5 MB as bfloat16, and a CPU of two cores adapts it in minutes. The demo's
repository and the repository of the demo's control run are not among its packages.
"""

import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from codegemma.feed.choices import FeedChoices
from codegemma.model.config import GemmaConfig
from codegemma.recipes import Recipe
from codegemma.records import InfillMode
from codegemma.train.choices import TrainChoices

RECIPE = Recipe(
    name="tiny_base",
    # A small vocabulary: a cursor inside a word meets spellings that a small model can still learn.
    model=GemmaConfig(
        vocab_size=1024, embed_dim=192, num_layers=4, num_heads=3, num_kv_heads=1, head_dim=64, mlp_dim=768
    ),
    feed=FeedChoices(
        # As in CodeGemma 2B 1.1: more holes a token.
        infill_share=0.9,
        # Short middles, as a cursor meets them; a model of this size has nothing to gain from long ones.
        hole_uniform=0.05,
        hole_line=0.35,
        hole_rest_of_line=0.35,
        hole_log_uniform=0.25,
        middle_weight=4.0,
        # A small model knows when to end only where it is told where the middle began; PSM needs the most practice.
        spm_mode=InfillMode.SPM1,
        spm_share=0.4,
        min_window_share=0.1,
        packing_bins=64,
    ),
    # Small batches: so early in training, many small updates learn more from the same tokens than few large ones.
    train=TrainChoices(
        steps=65_000,
        batch_rows=3,
        row_tokens=320,
        margin_tokens=64,
        peak_learning_rate=3e-3,
        warmup_steps=200,
        log_every_steps=100,
        save_every_steps=2000,
        sample_every_steps=2000,
    ),
)

# Import name -> distribution, whose metadata names the licence. All are dependencies of this project or of its tests.
PACKAGES = {
    "torch": "torch",
    "sympy": "sympy",
    "matplotlib": "matplotlib",
    "networkx": "networkx",
    "numpy": "numpy",
    "mypy": "mypy",
    "fontTools": "fonttools",
    "huggingface_hub": "huggingface_hub",
    "orbax": "orbax-checkpoint",
    "setuptools": "setuptools",
    "pip": "pip",
    "optax": "optax",
    "_pytest": "pytest",
    "rich": "rich",
    "grain": "grain",
    "PIL": "pillow",
    "fsspec": "fsspec",
    "click": "click",
    "jinja2": "Jinja2",
    "packaging": "packaging",
    "mpmath": "mpmath",
}

# Those that come with an installation that trains, development or not: what tuning rehearses (`library.py`).
REHEARSED = ("numpy", "matplotlib", "fontTools", "orbax", "optax", "rich", "grain", "PIL", "fsspec", "click", "jinja2",
             "packaging")  # fmt: skip


def list_folders() -> dict[str, Path]:
    """Find the folders of the packages that are installed here."""
    folders = {}
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            folders[name] = Path(next(iter(spec.submodule_search_locations)))
    return folders


def list_packages() -> list[dict[str, str]]:
    """Tell distribution, version and licence of each installed package, from its own metadata."""
    packages = []
    for name in list_folders():
        about = metadata.metadata(PACKAGES[name]).json
        classifiers = [c for c in about.get("classifier", []) if c.startswith("License")]
        named = about.get("license_expression") or "; ".join(c.rpartition(" :: ")[2] for c in classifiers)
        text = str(named or about.get("license") or "unknown")
        packages.append({"name": PACKAGES[name], "version": str(about["version"]), "license": text.splitlines()[0]})
    return packages


def main(arguments: list[str]) -> int:
    """Print the folders (`--folders`) or a table of packages, versions and licences (`--list`)."""
    if arguments == ["--folders"]:
        print(" ".join(str(folder) for folder in list_folders().values()))
        return 0
    if arguments == ["--list"]:
        for package in list_packages():
            print("\t".join(package.values()))
        return 0
    print("usage: python -m codegemma.recipes.tiny_base --list | --folders", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
