"""Where a model comes from and on whose terms: written beside the weights by whoever writes them, and handed down.

**In**: a model folder; what is done with the model.
**Out**: `Lineage`, and the files that spell it: `lineage.json`, and `NOTICE` where terms bind whoever passes it on.
**Not**: legal advice. The terms themselves are Google's to hand out: the notice names where they stand.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pygit2

import codegemma
from codegemma.errors import InputError
from codegemma.model.config import GemmaConfig
from codegemma.model.formats.folder import read_json

LINEAGE_FILE = "lineage.json"
NOTICE_FILE = "NOTICE"
GEMMA_TERMS = "gemma"
# The vocabulary of every Gemma 1. Weights of that size without a lineage are taken for Google's or made of them.
_GEMMA_VOCAB = 256_000
_HUB_SNAPSHOT = re.compile(r"models--(.+?)--(.+)/snapshots/([0-9a-f]{40})")
# The first sentence is the one that section 3.1 of the terms prescribes.
_GEMMA_NOTICE = """\
Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms

The weights in this folder are Gemma or a Model Derivative of it. They were modified from those that Google published
wherever lineage.json, beside this file, lists more than where they were taken from.

Whoever receives them is bound by the same terms, the restrictions of use among them (section 3.2 and
ai.google.dev/gemma/prohibited_use_policy). Pass this file on with them, together with a copy of the terms.
"""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What was done to come to a model, the oldest step first. `terms` bind whoever uses it or passes it on.

    >>> made = Lineage(None).extend("train", base=None, data="8d3f", recipe="tiny")
    >>> [step["act"] for step in made.steps], sorted(made.spell())
    (['train'], ['lineage.json'])
    """

    terms: str | None
    steps: tuple[Mapping[str, Any], ...] = ()

    def extend(self, act: str, **about: Any) -> "Lineage":
        """Add a step: an act such as convert, train or merge, what it was made with, and this program's commit."""
        made_by = {"codegemma": codegemma.__version__, "commit": find_commit()}
        return replace(self, steps=(*self.steps, {"act": act, **about, **made_by}))

    def spell(self) -> dict[str, bytes]:
        """Spell it as files: name to content."""
        plain = {"terms": self.terms, "steps": [dict(step) for step in self.steps]}
        files = {LINEAGE_FILE: (json.dumps(plain, indent=1, ensure_ascii=False) + "\n").encode()}
        return files | ({NOTICE_FILE: _GEMMA_NOTICE.encode()} if self.terms == GEMMA_TERMS else {})


def read_lineage(folder: Path, config: GemmaConfig, inside: bytes | None = None) -> Lineage:
    """Read a model's lineage; where none was written, begin one, on Gemma's terms if it has Gemma's vocabulary.

    `inside` is what a single file says of it; it counts where none lies in the folder.

    Raises:
        InputError: it is damaged: without it nobody knows which terms bind.
    """
    file = folder / LINEAGE_FILE
    if not file.is_file() and inside is None:
        terms = GEMMA_TERMS if config.vocab_size == _GEMMA_VOCAB else None
        return Lineage(terms, ({"act": "take", "model": _name_model(folder)},))
    plain = read_json(file) if file.is_file() or inside is None else _parse(inside, file)
    terms, steps = plain.get("terms"), plain.get("steps")
    if terms not in (None, GEMMA_TERMS) or not isinstance(steps, list) or not all(isinstance(s, dict) for s in steps):
        raise InputError(f"{file} does not tell the model's terms and steps; copy it again from where the model is")
    return Lineage(terms, tuple(steps))


def _parse(content: bytes, source: Path) -> dict[str, Any]:
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError):
        plain = None
    return plain if isinstance(plain, dict) else {"unreadable": str(source)}


def find_commit() -> str | None:
    """Tell the commit of the checkout that this program runs from; `None` for an installed package."""
    source = Path(codegemma.__file__).resolve()
    root = source.parents[2]
    if source.parent != root / "src" / "codegemma" or not (root / ".git").exists():
        return None
    try:
        return str(pygit2.Repository(str(root)).head.target)
    except pygit2.GitError:
        return None


def find_hub_id(folder: Path) -> tuple[str, str] | None:
    """Tell id and commit of a model that lies in the hub's cache."""
    found = _HUB_SNAPSHOT.search(folder.absolute().as_posix())
    return (f"{found[1]}/{found[2]}", found[3]) if found else None


def _name_model(folder: Path) -> str:
    """Name a model: by hub id and commit where it lies in the hub's cache, else by its folder."""
    return "@".join(find_hub_id(folder) or (folder.absolute().name,))
