"""One experiment a file, its command on top; a user's own file works by path.

**In**: the name of a recipe in this folder, or the path of a Python file that defines `RECIPE`.
**Out**: `Recipe`, the choices of every reach together.
**Not**: defaults of single choices: each reach keeps its own.
"""

import importlib
import importlib.util
import pkgutil
from dataclasses import dataclass, field
from pathlib import Path

from codegemma.align.choices import AlignChoices
from codegemma.corpus.choices import CorpusChoices
from codegemma.evals.choices import EvalChoices
from codegemma.feed.choices import FeedChoices
from codegemma.model.config import GemmaConfig
from codegemma.pack.choices import PackChoices
from codegemma.recipe import ChoiceError
from codegemma.train.choices import RoundChoices, TrainChoices


@dataclass(frozen=True, slots=True)
class Recipe:
    """What was chosen, from repository to measurement. `model.vocab_size` is that of the tokenizer trained with it."""

    name: str
    model: GemmaConfig
    corpus: CorpusChoices = field(default_factory=CorpusChoices)
    pack: PackChoices = field(default_factory=PackChoices)
    feed: FeedChoices = field(default_factory=FeedChoices)
    train: TrainChoices = field(default_factory=TrainChoices)
    rounds: RoundChoices = field(default_factory=RoundChoices)
    evals: EvalChoices = field(default_factory=EvalChoices)
    align: AlignChoices = field(default_factory=AlignChoices)
    # The model that `adapt` starts from where none is named: a folder in `codegemma/bases`, or none.
    base: str | None = None


def list_recipes() -> list[str]:
    """Name the recipes that come with the package."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_recipe(name: str) -> Recipe:
    """Load a recipe by name, or a user's own by the path of its file, which is executed.

    Raises:
        ChoiceError: no such recipe (the known ones are listed), or the file fails or defines no `RECIPE`.
    """
    if name in list_recipes():
        module = importlib.import_module(f"{__name__}.{name}")
    else:
        path = Path(name)
        if path.suffix != ".py" or not path.is_file():
            known = ", ".join(list_recipes())
            raise ChoiceError(f"unknown recipe {name!r}; known: {known}, or the path of a .py file that defines RECIPE")
        spec = importlib.util.spec_from_file_location(f"codegemma_recipe_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise ChoiceError(f"{path} cannot be imported as a Python file")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # whatever a user's own file raises
            raise ChoiceError(
                f"recipe {path} cannot be run ({type(error).__name__}: {error}); mend that file"
            ) from error
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise ChoiceError(f"recipe {name!r} defines no RECIPE of type codegemma.recipes.Recipe")
    return recipe
