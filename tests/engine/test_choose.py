"""Which engine serves what, and why."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from codegemma.engine.choose import choose_engine
from codegemma.errors import InputError

BASE = Path(__file__).parents[2] / "src/codegemma/bases/tiny"


def test_a_small_model_on_a_cpu_is_computed_by_jax_and_a_gguf_by_llama_cpp(tmp_path, monkeypatch):
    monkeypatch.setattr("codegemma.engine.choose.has_accelerator", lambda: False)
    assert choose_engine(BASE, "auto", {})[0] == "jax"
    (tmp_path / "model.gguf").touch()
    assert choose_engine(tmp_path / "model.gguf", "auto", {}) == ("llama.cpp", "a GGUF file")
    assert choose_engine(BASE, "auto", {"mine": tmp_path})[0] == "llama.cpp"
    assert choose_engine(BASE, "llama.cpp", {}) == ("llama.cpp", "asked for")


def test_a_large_model_goes_to_llama_cpp_unless_there_is_an_accelerator(tmp_path, monkeypatch):
    shutil.copytree(BASE, tmp_path / "large")
    monkeypatch.setattr("codegemma.engine.choose._SMALL_WEIGHTS", 1000)
    monkeypatch.setattr("codegemma.engine.choose.has_accelerator", lambda: False)
    engine, reason = choose_engine(tmp_path / "large", "auto", {})
    assert (engine, "million weights" in reason) == ("llama.cpp", True)
    monkeypatch.setattr("codegemma.engine.choose.has_accelerator", lambda: True)
    assert choose_engine(tmp_path / "large", "auto", {})[0] == "jax"


def test_what_jax_cannot_serve_is_said(tmp_path):
    with pytest.raises(InputError, match="GGUF"):
        choose_engine(tmp_path / "model.gguf", "jax", {})


@pytest.mark.parametrize("name", ["nothing", "nothing.gguf"])
def test_a_model_that_is_not_there_is_refused_before_an_engine_is_named(tmp_path, name):
    with pytest.raises(InputError, match="no such model"):
        choose_engine(tmp_path / name, "auto", {})


def test_choosing_llama_cpp_loads_no_jax():
    program = (
        "import sys; from pathlib import Path; from codegemma.engine.choose import choose_engine; "
        f"choose_engine(Path({str(BASE)!r}), 'auto', {{}}); sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=120).returncode == 0
