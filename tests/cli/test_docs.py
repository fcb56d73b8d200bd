"""What the texts tell people to type exists: verbs, options, choices of recipes, targets of make."""

import importlib
import re
from pathlib import Path

import click
import pytest

from codegemma.cli.main import VERBS
from codegemma.errors import UserError
from codegemma.recipe import override
from codegemma.recipes import load_recipe

ROOT = Path(__file__).parents[2]
# The lab log and the decisions tell what was typed at their time.
FOLDERS = {".": "*.md", "docs": "*.md", "editors/vscode": "*.md", "src/codegemma/cli": "*.py", "launch": "*"}
TEXTS = [
    file
    for folder, pattern in FOLDERS.items()
    for file in sorted((ROOT / folder).glob(pattern))
    if file.is_file() and file.name != "lab_log.md"
]
COMMANDS = {verb: importlib.import_module(f"codegemma.cli.{verb}").command for verb in VERBS}


def read(file: Path) -> str:
    return re.sub(r"\\\n\s*", " ", file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_option_that_a_text_shows_is_one_of_its_verb(file):
    for verb, rest in re.findall(r"codegemma ([a-z]+)((?: [^\n`]*)?)", read(file)):
        command = COMMANDS.get(verb)
        words = re.split(r"[|;#]|&&", rest)[0].split()
        if isinstance(command, click.Group):
            command = command.commands.get(words[0]) if words else None
        if command is not None:
            known = {"--help", *(name for param in command.params for name in (*param.opts, *param.secondary_opts))}
            shown = {found[0] for word in words if (found := re.match(r"--[a-z][a-z-]*", word))}
            assert shown <= known, f"codegemma {verb}{rest}"


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_choice_that_a_text_sets_is_one_of_a_recipe(file):
    recipes = [load_recipe(name) for name in ("tiny", "tiny_it")]
    for setting in re.findall(r"--set ([a-z_]+(?:\.[a-z_]+)+=[a-z0-9_.+=,-]*[a-z0-9])", read(file)):
        if setting.split(".")[0] in {"generator", "judge", "examination"}:
            continue  # of `synthesize`, which has no recipe
        refusals = []
        for recipe in recipes:
            try:
                override(recipe, [setting])
            except UserError as error:
                refusals.append(error)
        assert len(refusals) < len(recipes), refusals


def test_every_verb_is_told_in_the_readme_and_every_target_of_make_is_there():
    readme = read(ROOT / "README.md")
    assert [verb for verb in VERBS if not re.search(rf"`(?:codegemma )?{verb}\b", readme)] == []
    targets = set(re.findall(r"^([a-z0-9-]+):", read(ROOT / "Makefile"), re.MULTILINE))
    for file in (file for file in TEXTS if file.suffix == ".md"):
        assert set(re.findall(r"(?:`|^    )make ([a-z0-9-]+)", read(file), re.MULTILINE)) <= targets, file
