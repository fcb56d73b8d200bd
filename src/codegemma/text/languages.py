"""Which language a file is written in, and what differs between languages: data, kept in `languages.toml`.

**In**: a path and, where the path says nothing, the file's first line.
**Out**: a `Language`, or `None` where the table knows none; whether a path is a test, and of what.
**Not**: the contents: a `.h` file is C here, whatever it holds. Parsing is `syntax.py`'s.
"""

import functools
import importlib.util
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

INTERPRETER = re.compile(r"#!\s*(?:\S*/)?(?:env\s+(?:-\S+\s+)*)?(?:\S*/)?([A-Za-z][\w+-]*?)[\d.]*(?:\s|$)")


@dataclass(frozen=True, slots=True)
class Language:
    """One table of `languages.toml`, which explains the fields."""

    name: str
    extensions: tuple[str, ...]
    comment_sign: str
    test_stems: tuple[str, ...]
    grammar_module: str
    grammar_function: str = "language"
    file_names: tuple[str, ...] = ()
    interpreters: tuple[str, ...] = ()
    test_folders: tuple[str, ...] = ()


def _read_table() -> Mapping[str, Language]:
    table = tomllib.loads(resources.files("codegemma.text").joinpath("languages.toml").read_text(encoding="utf-8"))
    languages = {}
    for name, row in table.items():
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}
        languages[name] = Language(name=name, **values)
    return MappingProxyType(languages)


NAMES_ELSEWHERE = {"c++": "cpp", "c#": "csharp", "js": "javascript", "ts": "typescript", "golang": "go", "py": "python"}
LANGUAGES: Mapping[str, Language] = _read_table()
BY_EXTENSION = {extension: language for language in LANGUAGES.values() for extension in language.extensions}
BY_FILE_NAME = {name: language for language in LANGUAGES.values() for name in language.file_names}
BY_INTERPRETER = {program: language for language in LANGUAGES.values() for program in language.interpreters}


def detect_language(path: str, first_line: str) -> Language | None:
    """Tell the language by file name, then extension, then the `#!` line of a file without extension.

    >>> detect_language("src/app.py", "").name
    'python'
    >>> detect_language("bin/app", "#!/usr/bin/env python3.11 -u").name
    'python'
    >>> detect_language("README.md", "# App") is None
    True
    """
    pure = PurePosixPath(path)
    if pure.name in BY_FILE_NAME:
        return BY_FILE_NAME[pure.name]
    if pure.suffix:
        return BY_EXTENSION.get(pure.suffix.lower())
    match = INTERPRETER.match(first_line)
    return BY_INTERPRETER.get(match.group(1)) if match else None


def find_language(name: str) -> Language | None:
    """Find a language by the name that a data set gives it.

    >>> find_language("C++").name, find_language("TypeScript").name, find_language("Klingon")
    ('cpp', 'typescript', None)
    """
    plain = re.sub(r"[\s_-]", "", name.lower())
    return LANGUAGES.get(NAMES_ELSEWHERE.get(plain, plain))


def find_tested_stem(path: str, language: str) -> str | None:
    """Name the stem of the file that a test file tests, or `None` where the name is not a test's.

    >>> find_tested_stem("tests/test_parser.py", "python"), find_tested_stem("ParserTest.java", "java")
    ('parser', 'Parser')
    >>> find_tested_stem("tests/conftest.py", "python") is None
    True
    """
    name = PurePosixPath(path).stem
    for pattern in LANGUAGES[language].test_stems:
        before, after = pattern.split("{stem}")
        if len(name) > len(before) + len(after) and name.startswith(before) and name.endswith(after):
            return name[len(before) : len(name) - len(after)]
    return None


def is_test_path(path: str, language: str) -> bool:
    """Say whether a path is a test's: by its name, or by a folder that it lies in.

    >>> is_test_path("src/test_app.py", "python"), is_test_path("tests/data.py", "python")
    (True, True)
    >>> is_test_path("src/contest.py", "python")
    False
    """
    folders = PurePosixPath(path).parent.parts
    return find_tested_stem(path, language) is not None or any(f in LANGUAGES[language].test_folders for f in folders)


@functools.cache
def has_grammar(language: str) -> bool:
    """Say whether the grammar wheel of a language is installed."""
    return importlib.util.find_spec(LANGUAGES[language].grammar_module) is not None
