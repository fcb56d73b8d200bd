"""Chooses who computes a model on this machine, and opens it.

**In**: a place that holds a model, and perhaps the engine that the user wants.
**Out**: a `records.Generator`, and the reason in one sentence.
**Not**: measuring: the rule is drawn from `benchmarks/cpu_runtimes.py` and decisions 0001 and 0020.
"""

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from codegemma.engine.accelerators import has_accelerator
from codegemma.engine.llama_cpp import LlamaCpp
from codegemma.errors import InputError, UserError
from codegemma.records import Generator

ENGINES: Final = ("auto", "jax", "llama.cpp")
# On a CPU, XLA multiplies float32 well and everything shorter badly: small models are served as they are.
_SMALL_WEIGHTS: Final = 50_000_000

Tell = Callable[[str], None]


def choose_engine(place: Path, wanted: str, adapters: Mapping[str, Path]) -> tuple[str, str]:
    """Choose the engine, and say why.

    Raises:
        InputError: no model there, or what is wanted cannot serve it.
    """
    is_gguf = place.suffix == ".gguf" or (place.is_dir() and any(place.glob("*.gguf")))
    # JAX takes adapters as PEFT writes them; llama.cpp's are GGUF files.
    is_peft = all(map(_is_peft, adapters.values()))
    if wanted == "jax" and (is_gguf or not is_peft):
        what = "a GGUF file" if is_gguf else "adapters that are no folders of PEFT"
        raise InputError(f"{place}: {what} cannot be served by JAX; leave --engine out")
    if not place.exists():
        raise InputError(f"no such model: {place}; wanted a model folder, a GGUF file or a hub id")
    if wanted != "auto":
        return wanted, "asked for"
    if is_gguf or not is_peft:
        return "llama.cpp", "a GGUF file" if is_gguf else "adapters as GGUF files"
    if adapters:
        return "jax", "adapters as PEFT writes them"
    if importlib.util.find_spec("jax") is None:
        return "llama.cpp", "JAX is not installed"
    if has_accelerator():
        return "jax", "there is an accelerator"
    weights = _count_weights(place)
    if weights is not None and weights > _SMALL_WEIGHTS:
        return "llama.cpp", f"{weights / 1e6:,.0f} million weights on a CPU, in eight bits"
    return "jax", "its size is not known yet" if weights is None else "so small a model is quick as it is"


def open_model(place: Path, wanted: str, tell: Tell) -> Generator:
    """Open a model for one question or a list of them: nothing is compiled before it is needed.

    Raises:
        InputError: no model there, damaged, more memory than there is, or not for the engine that is wanted.
        MissingExtraError: a package is missing; the message says which extra brings it.
    """
    engine, _ = choose_engine(place, wanted, {})
    return open_generator(place, engine, {}, tell, warms=False)


def open_generator(
    place: Path, engine: str, adapters: Mapping[str, Path], tell: Tell, *, warms: bool = True
) -> Generator:
    """Open a model with an engine that `choose_engine` chose; `warms` compiles before the first question.

    Raises:
        InputError: no model there, damaged, or more memory than there is.
        MissingExtraError: a package is missing; the message says which extra brings it.
    """
    if engine == "llama.cpp":
        return LlamaCpp.load(
            place, adapters=adapters, on_quantize=lambda file: tell(f"writing {file}, once: a minute for each few GB")
        )
    if warms:
        _keep_compiled()
    from codegemma.engine.engine import Engine

    opened = Engine.load(place, adapters=adapters)
    if warms:
        tell("compiling; kept for the next start")
        opened.warm()
    return opened


def _is_peft(adapter: Path) -> bool:
    from codegemma.model.formats import peft

    return peft.recognize(adapter)


def _count_weights(place: Path) -> int | None:
    from codegemma.model.formats.folder import read_config
    from codegemma.model.formats.table import open_weights

    try:
        config = (read_config(place) if place.is_dir() else None) or open_weights(place).config
        return config.count_parameters()
    except UserError:
        return None  # whoever opens it says what is wrong


def _keep_compiled() -> None:
    """Have XLA keep what it compiles, so that a later start finds it."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(home / "codegemma" / "xla"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
