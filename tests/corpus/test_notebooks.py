"""A notebook is its cells, as a file that its language's parser takes; its outputs go nowhere."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.corpus.repositories import write

from codegemma.corpus.choices import CorpusChoices, Notebooks
from codegemma.corpus.notebooks import convert_notebook
from codegemma.corpus.read import hash_blob, read_repository
from codegemma.records import DroppedFile, SourceFile


def make_notebook(*cells: tuple[str, Any], **metadata: Any) -> bytes:
    rows = [{"cell_type": kind, "source": source, "metadata": {}, "outputs": [SECRET]} for kind, source in cells]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": rows}).encode()


SECRET = {"output_type": "stream", "text": "what was printed"}
CELLS = (
    ("markdown", ["# Title\n", "\n", "Adds ![x](data:image/png;base64,AAAA+/=) one.\n"]),
    ("code", "%matplotlib inline\n!pip install x\nimport os\n\nvalue = (1\n    % 2)\n"),
    ("raw", "not for us"),
    ("code", "%%bash\nrm -rf nothing\n"),
    ("code", ["def f(x):\r\n", "    return x"]),
    ("code", " \n"),
)
TEXT = """\
# %% [markdown]
# # Title
#
# Adds ![x]() one.

# %%
# %matplotlib inline
# !pip install x
import os

value = (1
    % 2)

# %%
# %%bash
# rm -rf nothing

# %%
def f(x):
    return x
"""


def test_cells_become_a_file_that_parses_and_outputs_are_left_out() -> None:
    language, text = convert_notebook(make_notebook(*CELLS))
    assert (language.name, text) == ("python", TEXT)
    ast.parse(text)


def test_version_3_and_other_kernels_are_read() -> None:
    cells = [
        {"cell_type": "heading", "level": 1, "source": ["Title"]},
        {"cell_type": "code", "language": "python", "input": ["x = 1"], "outputs": [SECRET]},
    ]
    language, text = convert_notebook(json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}]}).encode())
    assert (language.name, text) == ("python", "# %% [markdown]\n# # Title\n\n# %%\nx = 1\n")
    language, text = convert_notebook(make_notebook(("code", "let x = 1;"), kernelspec={"language": "TypeScript"}))
    assert (language.name, text) == ("typescript", "// %%\nlet x = 1;\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"9" * 100_000, "not JSON"),
        (b"[]", "no object"),
        (b"{}", "no cell with code"),
        (b'{"cells": 1, "worksheets": [null, {"cells": [1, {"cell_type": {}, "source": {}}]}]}', "no cell with code"),
        (make_notebook(("markdown", "only words")), "no cell with code"),
        (make_notebook(("code", "x"), language_info={"name": "klingon"}), "'klingon' is not known"),
        (b'{"cells": [{"cell_type": "code", "source": "x = \'\\ud800\'"}]}', "a lone surrogate"),
    ],
)
def test_what_is_no_notebook_says_why(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert_notebook(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["cells", "worksheets", "cell_type", "source", "input", "metadata", "language", "name"]), inner
    ),
    max_leaves=30,
)  # fmt: skip


@given(JSON | st.fixed_dictionaries({"cells": st.lists(st.fixed_dictionaries({"cell_type": JSON, "source": JSON}))}))
def test_any_json_is_converted_or_refused(value: Any) -> None:
    try:
        _, text = convert_notebook(json.dumps(value).encode())
    except ValueError:
        return
    text.encode()


def test_notebook_is_a_file_of_its_kernels_language_under_its_own_path_and_blob(tmp_path: Path) -> None:
    content = make_notebook(*CELLS)
    [file] = read_repository(write(tmp_path, {"a.ipynb": content}), CorpusChoices())
    assert isinstance(file, SourceFile)
    assert (file.path, file.language, file.text, file.blob) == ("a.ipynb", "python", TEXT, hash_blob(content))


def test_outputs_do_not_count_towards_the_size_and_cells_do(tmp_path: Path) -> None:
    images = json.dumps({"cells": [{"cell_type": "code", "source": "x = 1", "outputs": ["A" * 2_000_000]}]})
    cells = make_notebook(("code", "x = 1\n" * 200_000))
    huge = json.dumps({"cells": [{"cell_type": "code", "source": "x = 1", "outputs": ["A" * 20_000_000]}]})
    results = read_repository(write(tmp_path, {"a.ipynb": images, "b.ipynb": cells, "c.ipynb": huge}), CorpusChoices())
    kept, cells_drop, huge_drop = results
    assert isinstance(kept, SourceFile)
    assert isinstance(cells_drop, DroppedFile)
    assert isinstance(huge_drop, DroppedFile)
    assert kept.text == "# %%\nx = 1\n"
    assert (cells_drop.reason, huge_drop.reason) == ("too_big", "too_big")
    assert "bytes of cells" in cells_drop.detail


def test_notebooks_are_dropped_by_choice_and_by_language(tmp_path: Path) -> None:
    root = write(tmp_path, {"a.ipynb": make_notebook(*CELLS), "b.IPYNB": make_notebook(("code", "x\0"))})
    by_choice = read_repository(root, CorpusChoices(notebooks=Notebooks.DROP))
    assert [(r.path, r.reason) for r in by_choice if isinstance(r, DroppedFile)] == [
        ("a.ipynb", "notebook"),
        ("b.IPYNB", "notebook"),
    ]
    by_language = read_repository(root, CorpusChoices(languages=("rust",)))
    assert [r.reason for r in by_language if isinstance(r, DroppedFile)] == ["language", "language"]
    assert [r.reason for r in read_repository(root, CorpusChoices()) if isinstance(r, DroppedFile)] == ["binary"]
