import pytest

from codegemma.text.languages import LANGUAGES, detect_language, find_tested_stem, has_grammar, is_test_path


@pytest.mark.parametrize(
    ("path", "first_line", "name"),
    [
        ("a/b.py", "", "python"),
        ("a/b.PYI", "", "python"),
        ("SConstruct", "", "python"),
        ("tool", "#!/usr/bin/python3", "python"),
        ("tool", "#! /usr/bin/env -S python3.11 -u", "python"),
        ("tool", "#!/opt/pypy/bin/pypy3\n", "python"),
        ("tool", "#!/usr/bin/env node", "javascript"),
        ("include/vector", "// <vector> -*- C++ -*-", "cpp"),
        ("tool", "# -*- mode: python; coding: utf-8 -*-", "python"),
        ("tool", "# vi: set sw=4 ft=python :", "python"),
        ("tool", "#!/usr/bin/env -S cargo +nightly -Zscript", "rust"),
        ("tool", "#!/usr/bin/java --source 21", "java"),
        ("A.H++", "", "cpp"),
        ("a.tsx", "", "tsx"),
        ("src/main.rs", "", "rust"),
        ("App.kt", "", "kotlin"),
    ],
)
def test_language_is_told_by_path_then_by_first_line(path: str, first_line: str, name: str) -> None:
    language = detect_language(path, first_line)
    assert language is not None
    assert language.name == name


@pytest.mark.parametrize(
    ("path", "first_line"),
    [
        ("README.md", "#!/usr/bin/env python"),  # an extension that says something else wins
        ("tool", "#!/bin/sh"),
        ("tool", "#!"),
        ("tool", "import os  # python"),
        ("tool", "# -*- coding: utf-8 -*-"),
        ("tool", "# vim: ft=sh"),
        ("Makefile", ""),
        ("py", ""),
        (".py", ""),
        ("tool", "#!" + "a/" * 300_000 + "!"),  # the square of its length would be hours
    ],
)
def test_unknown_language_is_none(path: str, first_line: str) -> None:
    assert detect_language(path, first_line) is None


def test_no_extension_file_name_or_interpreter_belongs_to_two_languages() -> None:
    for field in ("extensions", "file_names", "interpreters", "modes"):
        values = [value for language in LANGUAGES.values() for value in getattr(language, field)]
        assert len(values) == len(set(values)), field


def test_every_test_pattern_names_the_stem_once() -> None:
    patterns = [pattern for language in LANGUAGES.values() for pattern in language.test_stems]
    assert patterns
    assert all(pattern.count("{stem}") == 1 for pattern in patterns)


@pytest.mark.parametrize(
    ("path", "language", "stem"),
    [
        ("tests/test_foo.py", "python", "foo"),
        ("foo_test.py", "python", "foo"),
        ("pkg/foo_test.go", "go", "foo"),
        ("src/test/java/FooTest.java", "java", "Foo"),
        ("foo.spec.ts", "typescript", "foo"),
        ("test_.py", "python", None),
        ("foo.py", "python", None),
    ],
)
def test_test_file_names_what_it_tests(path: str, language: str, stem: str | None) -> None:
    assert find_tested_stem(path, language) == stem


@pytest.mark.parametrize(("path", "expected"), [("tests/data.py", True), ("test.py", False), ("contests/a.py", False)])
def test_folder_of_tests_makes_a_test(path: str, expected: bool) -> None:
    assert is_test_path(path, "python") is expected


def test_python_grammar_comes_with_the_project() -> None:
    assert has_grammar("python")
