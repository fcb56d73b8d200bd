"""Which language a file is written in, and what differs between languages: data, kept in `languages.toml`.

**In**: a path and, where the path says nothing, the file's first line.
**Out**: a `Language`, or `None` where the table knows none; whether a path is a test, and of what.
**Not**: the contents: a `.h` file is C here, whatever it holds; `headers.py` settles that. Parsing is `syntax.py`'s.
"""

import functools
import importlib.util
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

INTERPRETER = re.compile(r"#!\s*(?:\S*/)?(?:env\s+(?:-\S+\s+)*)?(?:\S*/)?([A-Za-z][\w+-]*?)[\d.]*(?:\s|$)")
# Files that hold the tests of the folder or module that they lie in.
TESTS_OF_FOLDER = frozenset({"test", "tests"})
# `-*- mode: c++ -*-` of Emacs, also without `mode:`, and `vim: set ft=cpp:`.
MODE = re.compile(
    r"""-\*-[ \t]*+(?:[^\n]{0,200}?\bmode:[ \t]*+)?([\w+#]++)[ \t]*+(?:;|-\*-)"""
    r"""|\bvim?:[^\n]{0,200}?\b(?:ft|filetype)=(\w++)"""
)
# A first line that says the language is for people to read; data in one line of megabytes is not looked through.
_MAX_FIRST_CHARS = 2_000


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
    modes: tuple[str, ...] = ()
    test_folders: tuple[str, ...] = ()
    test_folder_ends: tuple[str, ...] = ()
    build_files: tuple[str, ...] = ()
    has_namesakes: bool = False
    family: str = ""
    is_indented: bool = False
    continuations: tuple[str, ...] = ()
    prefaces: tuple[str, ...] = ()


def _read_table() -> Mapping[str, Language]:
    table = tomllib.loads(resources.files("codegemma.text").joinpath("languages.toml").read_text(encoding="utf-8"))
    languages = {}
    for name, row in table.items():
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}
        languages[name] = Language(name=name, **({"family": name} | values))
    return MappingProxyType(languages)


NAMES_ELSEWHERE = {"c++": "cpp", "c#": "csharp", "js": "javascript", "ts": "typescript", "golang": "go", "py": "python"}
LANGUAGES: Mapping[str, Language] = _read_table()
# What a document that is not code may be. None of these has a grammar or needs one.
DOCUMENT_LANGUAGES = ("text", "markdown", "math")
BY_EXTENSION = {extension: language for language in LANGUAGES.values() for extension in language.extensions}
BY_FILE_NAME = {name: language for language in LANGUAGES.values() for name in language.file_names}
BY_MODE = {mode: language for language in LANGUAGES.values() for mode in language.modes}
BY_INTERPRETER = {program: language for language in LANGUAGES.values() for program in language.interpreters}


def detect_language(path: str, first_line: str) -> Language | None:
    """Tell the language by file name, then extension, then the `#!` or mode line of a file without extension.

    >>> detect_language("src/app.py", "").name
    'python'
    >>> detect_language("bin/app", "#!/usr/bin/env python3.11 -u").name
    'python'
    >>> detect_language("include/vector", "// -*- C++ -*-").name
    'cpp'
    >>> detect_language("README.md", "# App") is None
    True
    """
    pure = PurePosixPath(path)
    if pure.name in BY_FILE_NAME:
        return BY_FILE_NAME[pure.name]
    if pure.suffix:
        return BY_EXTENSION.get(pure.suffix.lower())
    match = INTERPRETER.match(first_line[:_MAX_FIRST_CHARS])
    by_program = BY_INTERPRETER.get(match.group(1)) if match else None
    return by_program or read_mode_line(first_line)


def read_mode_line(first_line: str) -> Language | None:
    """Tell the language that a file asks editors to show it as.

    >>> read_mode_line("/* vim: set sw=4 ft=c : */").name
    'c'
    """
    match = MODE.search(first_line[:_MAX_FIRST_CHARS])
    return BY_MODE.get((match[1] or match[2]).lower()) if match else None


def find_language(name: str) -> Language | None:
    """Find a language by the name that a data set gives it.

    >>> find_language("C++").name, find_language("TypeScript").name, find_language("Klingon")
    ('cpp', 'typescript', None)
    """
    plain = re.sub(r"[\s_-]", "", name.lower())
    return LANGUAGES.get(NAMES_ELSEWHERE.get(plain, plain))


def split_path(path: str) -> tuple[tuple[str, ...], str]:
    """Split a path into the names of its folders and the stem of its file; for this, `pathlib` takes ten times as long.

    >>> split_path("src/lib/app.test.py"), split_path(".clang-format")
    ((('src', 'lib'), 'app.test'), ((), '.clang-format'))
    """
    folder, _, name = path.rpartition("/")
    point = name.rfind(".")
    return tuple(filter(None, folder.split("/"))), name[:point] if 0 < point < len(name) - 1 else name


def find_tested_stem(path: str, language: str) -> str | None:
    """Name the stem of the file that a test file tests, or `None` where the name is not a test's.

    >>> find_tested_stem("tests/test_parser.py", "python"), find_tested_stem("ParserTest.java", "java")
    ('parser', 'Parser')
    >>> find_tested_stem("tests/parser.rs", "rust"), find_tested_stem("src/parser/tests.rs", "rust")
    ('parser', 'parser')
    >>> find_tested_stem("tests/conftest.py", "python") is None
    True
    """
    folders, name = split_path(path)
    row = LANGUAGES[language]
    for pattern in row.test_stems:
        before, after = pattern.split("{stem}")
        if len(name) > len(before) + len(after) and name.startswith(before) and name.endswith(after):
            return name[len(before) : len(name) - len(after)]
    if row.has_namesakes:
        if name in TESTS_OF_FOLDER:
            return folders[-1] if folders else None
        if find_project(path, language) is not None:
            return name
    return None


def is_test_path(path: str, language: str) -> bool:
    """Say whether a path is a test's: by its name, or by a folder that it lies in.

    >>> is_test_path("src/test_app.py", "python"), is_test_path("tests/data.py", "python")
    (True, True)
    >>> is_test_path("src/contest.py", "python"), is_test_path("App.Tests/Data.cs", "csharp")
    (False, True)
    """
    return find_tested_stem(path, language) is not None or find_project(path, language) is not None


def find_project(path: str, language: str) -> str | None:
    """Find the folder that holds the test folder of a path; `None` where the path is in none.

    >>> find_project("libs/a/tests/unit/b.rs", "rust"), find_project("src/b.rs", "rust")
    ('libs/a', None)
    """
    row = LANGUAGES[language]
    folders, _ = split_path(path)
    for depth, folder in enumerate(folders):
        if folder in row.test_folders or folder.endswith(row.test_folder_ends):
            return "/".join(folders[:depth])
    return None


def is_build_file(path: str, languages: Iterable[str] = LANGUAGES) -> bool:
    """Say whether a path is a build file of some languages: it says what the modules of a repository are called.

    >>> is_build_file("lib/go.mod"), is_build_file("src/App.csproj"), is_build_file("lib/go.mod", ["rust"])
    (True, True, False)
    """
    name = path.rpartition("/")[2]
    return any(
        name.endswith(pattern[1:]) if pattern.startswith("*") else name == pattern
        for language in languages
        for pattern in LANGUAGES[language].build_files
    )


@functools.cache
def has_grammar(language: str) -> bool:
    """Say whether the grammar wheel of a language is installed."""
    return importlib.util.find_spec(LANGUAGES[language].grammar_module) is not None
