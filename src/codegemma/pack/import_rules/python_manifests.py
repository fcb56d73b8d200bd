"""What pyproject.toml and setup.cfg say of where the packages of a repository lie.

**In**: build files by path.
**Out**: the dotted name that a folder has, as setuptools, Poetry, Hatch, PDM and Maturin spell it; `""` for a root.
**Not**: setup.py, which is a program, and roots that the paths show anyway.
"""

import configparser
from collections.abc import Iterator, Mapping
from typing import Any

from codegemma.pack.import_rules.statement import find_folder, find_table, join_path
from codegemma.text.toml_source import read_toml


def list_package_folders(build_files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield dotted names and the folders that have them.

    >>> text = '[tool.setuptools.package-dir]\\nshop = "source"\\n"" = "lib"\\n'
    >>> list(list_package_folders({"web/pyproject.toml": text}))
    [('shop', 'web/source'), ('', 'web/lib')]
    """
    for path, text in sorted(build_files.items()):
        name = path.rpartition("/")[2]
        found = _read_pyproject(text) if name == "pyproject.toml" else _read_setup(text) if name == "setup.cfg" else ()
        for package, place in found:
            folder = join_path(find_folder(path), place) if isinstance(place, str) else None
            if isinstance(package, str) and folder is not None:
                yield package, folder


def _read_pyproject(text: str) -> Iterator[tuple[Any, Any]]:
    tool = find_table(read_toml(text), "tool")
    yield from find_table(tool, "setuptools", "package-dir").items()
    where = find_table(tool, "setuptools", "packages", "find").get("where")
    yield from (("", place) for place in where) if isinstance(where, list) else ()
    packages = find_table(tool, "poetry").get("packages")
    for package in packages if isinstance(packages, list) else ():
        if isinstance(package, dict) and "from" in package:
            yield "", package["from"]
    wheel = find_table(tool, "hatch", "build", "targets", "wheel").get("packages")
    for place in wheel if isinstance(wheel, list) else ():
        yield "", str(place).rpartition("/")[0]
    yield "", find_table(tool, "pdm", "build").get("package-dir")
    yield "", find_table(tool, "maturin").get("python-source")


def _read_setup(text: str) -> Iterator[tuple[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return  # a broken manifest says nothing
    for line in parser.get("options", "package_dir", fallback="").splitlines():
        package, is_pair, place = line.partition("=")
        if is_pair:
            yield package.strip(), place.strip()
    yield from (("", place.strip()) for place in parser.get("options.packages.find", "where", fallback="").split())
