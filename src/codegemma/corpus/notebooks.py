"""Turns a Jupyter notebook into one file of source text: its cells in order, in the percent format.

**In**: the bytes of an `.ipynb` file, version 3 or 4.
**Out**: the kernel's language, and text that an editor which knows the percent format shows as the same cells.
**Not**: outputs and attachments, which hold data, images and what was printed; nothing is run.

The percent format, because the result is a legal file of its language, in the form in which people write notebooks in
an editor. Markdown cells stay, as comments: they say in words what the next cell does. What only IPython understands
(`%magic`, `!command`) becomes a comment too, so that the rest parses.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from codegemma.text.languages import Language, find_language

SUFFIX = ".ipynb"
_MAGIC = re.compile(r"^[ \t]*(?:%{1,2}[A-Za-z]|!|\?)")
# An image inside the text.
_DATA_LINK = re.compile(r"data:[\w.+/-]+;base64,[A-Za-z0-9+/=%]*")


def convert_notebook(content: bytes) -> tuple[Language, str]:
    r"""Convert a notebook.

    >>> cells = [{"cell_type": "markdown", "source": "Add one."}, {"cell_type": "code", "source": ["%time\n", "x + 1"]}]
    >>> language, text = convert_notebook(json.dumps({"nbformat": 4, "cells": cells}).encode())
    >>> language.name, text
    ('python', '# %% [markdown]\n# Add one.\n\n# %%\n# %time\nx + 1\n')

    Raises:
        ValueError: not a notebook, without code, in no language that we know, or not text.
    """
    try:
        notebook = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON in UTF-8: {error}") from error
    if not isinstance(notebook, dict):
        raise ValueError("not a notebook: JSON, but no object")
    language = _find_kernel_language(notebook)
    cells = [(kind, text.strip("\n")) for kind, text in _read_cells(notebook) if text.strip()]
    if not any(kind == "code" for kind, _ in cells):
        raise ValueError("no cell with code")
    text = "\n".join(_spell_cell(kind, text, language) for kind, text in cells)
    if not text.isascii():
        _check_encodable(text)
    return language, text


def _check_encodable(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a lone surrogate at character {error.start}") from error


def _find_kernel_language(notebook: dict[str, Any]) -> Language:
    metadata = _as_dict(notebook.get("metadata"))
    named = (
        _as_dict(metadata.get("language_info")).get("name"),
        _as_dict(metadata.get("kernelspec")).get("language"),
        *(_as_dict(cell).get("language") for cell in _list_cells(notebook)[:1]),
    )
    name = next((name for name in named if isinstance(name, str) and name), "python")
    # IPython names itself in old files.
    language = find_language("python" if name.startswith("ipython") else name)
    if language is None:
        raise ValueError(f"the kernel's language {name[:40]!r} is not known")
    return language


def _as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _list_cells(notebook: dict[str, Any]) -> list[Any]:
    """List the cells of version 4, or of the sheets of version 3."""
    sheets = [notebook, *_as_list(notebook.get("worksheets"))]
    return [cell for sheet in sheets for cell in _as_list(_as_dict(sheet).get("cells"))]


def _read_cells(notebook: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for cell in map(_as_dict, _list_cells(notebook)):
        kind, source = cell.get("cell_type"), cell.get("source", cell.get("input"))
        lines = source if isinstance(source, list) else [source]
        text = "".join(line for line in lines if isinstance(line, str)).replace("\r\n", "\n")
        if kind == "heading":  # of version 3
            yield "markdown", f"# {text}"
        elif kind in ("code", "markdown"):  # a raw cell is meant for another program
            yield kind, text


def _spell_cell(kind: str, text: str, language: Language) -> str:
    sign = language.comment_sign
    lines = text.split("\n")
    if kind == "markdown":
        lines = _DATA_LINK.sub("", text).split("\n")
        spelled = [f"{sign} {line}".rstrip() for line in lines]
        return "\n".join([f"{sign} %% [markdown]", *spelled, ""])
    if lines[0].startswith("%%"):  # a cell in another language, or for another program
        spelled = [f"{sign} {line}".rstrip() for line in lines]
    else:
        spelled = [f"{sign} {line}" if _MAGIC.match(line) else line for line in lines]
    return "\n".join([f"{sign} %%", *spelled, ""])
