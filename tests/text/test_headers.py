import time

import pytest

from codegemma.text.headers import list_candidates, settle_language
from codegemma.text.languages import LANGUAGES

GUARD = "#ifndef A_H\n#define A_H\n{}\n#endif\n"
SHARED = '#ifdef __cplusplus\nextern "C" {{\n#endif\n{}\n#ifdef __cplusplus\n}}\n#endif\n'


def settle(text: str, path: str = "include/a.h") -> str:
    return settle_language(path, LANGUAGES["c"], text).name


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("", "c"),
        ("int f(struct a *b);\n", "c"),
        ("/* a class of things; see std::vector, operator new */\nint f(int class_id);\n", "c"),
        ("struct a { int class; };\nint namespace(int operator);\nstatic int template = 1;\n", "c"),
        ("#define CALL(x) f(x, &y)\nint z = f(&x, &y);\n", "c"),
        (SHARED.format("int f(void);"), "c"),
        (SHARED.format("/* not a template */ int f(void);"), "c"),
        ("namespace a {\nint f();\n}\n", "cpp"),
        ("class A final : public B {\n};\n", "cpp"),
        ("struct A {\n  ~A() = default;\n  virtual void f(const A& b) const noexcept = 0;\n};\n" * 5, "cpp"),
        ("#include <vector>\ninline std::vector<int> f(const std::string& s) { return {}; }\n" * 5, "cpp"),
        ("// -*- C++ -*-\nint f(void);\n", "cpp"),
        ("// -*- C++ -*-", "cpp"),
        ("/* -*- mode: C; tab-width: 8 -*- */\nclass A {};\n", "c"),
    ],
)
def test_header_is_in_the_language_that_a_person_would_say(text: str, language: str) -> None:
    assert settle(text) == language
    assert settle(GUARD.format(text)) == language or text.startswith(("//", "/* -*-"))


def test_only_headers_are_left_open() -> None:
    assert [language.name for language in list_candidates("a.H", LANGUAGES["c"])] == ["c", "cpp"]
    assert settle("namespace a {\n}\n", "a.c") == "c"
    assert list_candidates("a.py", LANGUAGES["python"]) == (LANGUAGES["python"],)


@pytest.mark.parametrize("unit", ["template", "class a", "a::", "a& b,", "\n\t", "-*- ", "vim: ", "{", "#if a\n"])
def test_a_hostile_header_costs_no_more_than_its_beginning(unit: str) -> None:
    started_s = time.process_time()
    settle(unit * (4_000_000 // len(unit)))
    assert time.process_time() - started_s < 5.0
