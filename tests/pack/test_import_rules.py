"""Imports of every language: how they are spelled, and which file of a repository they mean."""

import time
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegemma.pack.import_rules.statement import SuffixIndex, find_nearest
from codegemma.pack.imports import RULES, ImportKind, extract_imports, resolve_imports
from codegemma.text.languages import detect_language, is_build_file


def read(text: str, language: str) -> list[tuple[str, tuple[str, ...]]]:
    found = extract_imports(text, language)
    return [(i.module, i.names) for i in found if i.kind is ImportKind.IMPORT]


@pytest.mark.parametrize(
    ("language", "text", "wanted"),
    [
        ("c", '#include "a/b.h"\n  #  include <c.h> // why\n', [("a/b.h", ()), ("c.h", ())]),
        ("c", "#if X\n#include_next <d.h>\n#endif\n", [("d.h", ())]),
        ("cpp", '#include MACRO\n// #include "no.h"\nx = "#include <no.h>";\n#include <vector\n', []),
        ("java", "import a.b.C;\r\nimport static a.b.D.e;\n", [("a.b.C", ()), ("a.b.D.e", ())]),
        ("java", "  import a.b.*;\nimportant a;\n", [("a.b", ("*",))]),
        ("kotlin", "import a.b.C as D\nimport a.`in`.f\nimport c.*\n", [("a.b.C", ()), ("a.in.f", ()), ("c", ("*",))]),
        ("csharp", "global using A.B;\nusing static C.D;\nusing E = F.G;\n",
         [("A.B", ("*",)), ("C.D", ()), ("F.G", ())]),
        ("csharp", "using (var x = y) { }\nusing var z = w;\nusing global::A;\n", [("A", ("*",))]),
        ("go", 'import "a.b/c"\nimport d "e.f/g"\nimport . "h.i/j"\n',
         [("a.b/c", ("c",)), ("e.f/g", ("d",)), ("h.i/j", (".",))]),
        ("go", 'import (\n\t"fmt" // (a)\n\n\t_ "b.c/d/v2"\n)\n', [("fmt", ("fmt",)), ("b.c/d/v2", ("_",))]),
        ("javascript", "import './a';\nimport b from \"b\"\nexport * from './c'\n",
         [("./a", ()), ("b", ("b",)), ("./c", ("*",))]),
        ("javascript", "import {\n  a as b,\n  c,\n} from './d'\n", [("./d", ("a", "c"))]),
        ("javascript", "const a = require('./a')(b)\nimport(\n'./c')\n", [("./a", ()), ("./c", ())]),
        ("javascript", "export default 'text'\nexport const a = 'b'\nfrom('c')\n", []),
        ("typescript", "import type { A } from './a'\nimport { type B } from './b'\nimport c = require('./c')\n",
         [("./a", ("A",)), ("./b", ("B",)), ("./c", ())]),
        ("rust", "mod a;\npub(crate) mod b;\n#[cfg(test)] mod c;\nmod inline { }\n", [("a", ()), ("b", ()), ("c", ())]),
        ("rust", '#[path = "x/y.rs"]\nmod a;\nextern crate b;\n', [("x/y.rs", ()), ("b", ())]),
        ("rust", "pub use crate::{a::{self, B}, // no::no\n c::*};\n",
         [("crate::a", ()), ("crate::a::B", ()), ("crate::c", ())]),
        ("rust", "mod t {\n    use super::*;\n    use super::super::a;\n}\nuse super::b as c;\n",
         [("self", ()), ("self::super::a", ()), ("super::b", ())]),
    ],
)  # fmt: skip
def test_imports_are_read_in_all_their_spellings(
    language: str, text: str, wanted: list[tuple[str, tuple[str, ...]]]
) -> None:
    assert read(text, language) == wanted


def edges(files: dict[str, str], repo: str = "hub/repo") -> set[tuple[str, str]]:
    sources = {path: detect_language(path, "") for path in files}
    imports = {path: extract_imports(files[path], language.name) for path, language in sources.items() if language}
    build_files = {path: text for path, text in files.items() if is_build_file(path)}
    return {(edge.importer, edge.imported) for edge in resolve_imports(imports, repo, build_files=build_files)}


RESOLVED = {
    "c: own folder, then the nearest by suffix": (
        {"a/m.c": '#include "x.h"\n#include <y/z.h>\n', "a/x.h": "", "x.h": "", "inc/y/z.h": "", "a/b/y/z.h": ""},
        {("a/m.c", "a/x.h"), ("a/m.c", "a/b/y/z.h")},
    ),
    "c: above, and the compiler's own": (
        {"a/m.c": '#include "../x.h"\n#include <string.h>\n#include "../../x.h"\n', "x.h": "", "a/string.h": ""},
        {("a/m.c", "x.h")},
    ),
    "c: the repository's name": ({"m.cc": "#include <repo/x.h>\n", "x.h": ""}, {("m.cc", "x.h")}),
    "java: types, members, wildcards, own package": (
        {
            "m/a/A.java": "package a;\nimport b.B;\nimport static c.C.run;\nimport d.*;\nclass A { D x; E y; F.G z }\n",
            "m/a/F.java": "package a;\n",
            "m/b/B.java": "package b;\n",
            "m/c/C.java": "package c;\n",
            "m/d/D.java": "package d;\n",
            "m/e/E.java": "package e;\n",
        },
        {("m/a/A.java", f"m/{name.lower() if name != 'F' else 'a'}/{name}.java") for name in "BCDF"},
    ),
    "kotlin and java: functions of the top level, and each other": (
        {
            "A.kt": "package a\n\nimport b.shout\nimport b.J\n\nclass A\n",
            "b/Text.kt": "package b\n\ninline fun <T> String.shout(t: T) = 1\n",
            "b/J.java": "package b;\nclass J { a.A x; }\n",
        },
        {("A.kt", "b/Text.kt"), ("A.kt", "b/J.java")},
    ),
    "c#: usings and the namespaces around": (
        {
            "App.cs": "using Lib.Net;\nnamespace Lib.App;\n"
            "class App : Socket { Log l; x.Other o; Name = 1; } // Name\n",
            "Net/Socket.cs": "namespace Lib.Net { class Socket { } }\n",
            "Net/Socket.Async.cs": "namespace Lib.Net;\npartial class Socket { }\nclass Buffer { }\n",
            "Log.cs": "namespace Lib { class Log { } }\n",
            "Other.cs": "namespace Lib { class Other { } }\n",
            "Name.cs": "namespace Lib;\n/* App */ class Name : Log { }\n",
            "Far/Log.cs": "namespace Far { class Log { } }\n",
        },
        {
            ("App.cs", "Net/Socket.cs"),
            ("App.cs", "Log.cs"),
            ("Net/Socket.Async.cs", "Net/Socket.cs"),
            ("Name.cs", "Log.cs"),
        },
    ),
    "go: by the module's path": (
        {
            "sub/go.mod": "module ex.org/thing // why\n",
            "sub/main.go": 'package main\nimport (\n\tq "ex.org/thing/p"\n\t"ex.org/other/p"\n)\n'
            "func main() { q.Run() }\n",
            "sub/p/run.go": "package p\n\nfunc Run() {}\n",
            "sub/p/p.go": "package p\n\nfunc Stop() {}\n",
        },
        {("sub/main.go", "sub/p/run.go")},
    ),
    "go: without go.mod, by the repository's name": (
        {
            "main.go": 'package main\nimport _ "x.org/hub/repo/v2/p"\nimport "y.org/json"\nvar x = json.Parse()\n',
            "p/a.go": "package p\n",
            "p/p.go": "package p\n",
            "json/json.go": "package json\n\nfunc Parse() {}\n",
        },
        {("main.go", "p/p.go")},
    ),
    "javascript: extensions, folders, what the compiler writes": (
        {
            "src/a.ts": "import './b'\nimport {c} from './c'\nimport d from './d.js'\n"
            "import '../e.vue'\nimport 'react'\n",
            "src/b.tsx": "",
            "src/c/index.ts": "",
            "src/d.ts": "",
            "src/react.ts": "",
        },
        {("src/a.ts", "src/b.tsx"), ("src/a.ts", "src/c/index.ts"), ("src/a.ts", "src/d.ts")},
    ),
    "javascript: packages of the workspace, by name and by folder": (
        {
            "apps/web/a.js": "import '@x/lib'; \nimport '@x/lib/util'\n",
            "packages/l/package.json": '{"name": "@x/lib"}',
            "packages/bad/package.json": "{",
            "packages/l/src/index.ts": "",
            "packages/l/src/util.ts": "",
        },
        {("apps/web/a.js", "packages/l/src/index.ts"), ("apps/web/a.js", "packages/l/src/util.ts")},
    ),
    "javascript: without package.json": (
        {"web/a.js": "import '@x/lib'\nimport '@/b'\n", "packages/lib/src/index.js": "", "web/src/b.js": ""},
        {("web/a.js", "packages/lib/src/index.js"), ("web/a.js", "web/src/b.js")},
    ),
    "javascript: of two folders of one name the first": (
        {"m/a.ts": "import '@x/k'\n", "m/k/src/index.ts": "", "m/k/k/index.ts": ""},
        {("m/a.ts", "m/k/src/index.ts")},
    ),
    "rust: modules and crates": (
        {
            "my-lib/Cargo.toml": '[package]\nname = "renamed-lib"\n',
            "my-lib/src/lib.rs": "mod a;\npub mod b;\n",
            "my-lib/src/a.rs": "mod deep;\nuse crate::b::Thing;\nuse std::fmt;\n",
            "my-lib/src/a/deep.rs": "use super::x;\n#[cfg(test)]\nmod tests {\n    use super::*;\n}\n",
            "my-lib/src/b/mod.rs": "use self::c::D;\nmod c;\n",
            "my-lib/src/b/c.rs": "use crate::Root;\n",
            "my-lib/tests/it.rs": "mod common;\nuse renamed_lib::b::Thing;\n",
            "my-lib/tests/common/mod.rs": "",
        },
        {
            ("my-lib/src/lib.rs", "my-lib/src/a.rs"),
            ("my-lib/src/lib.rs", "my-lib/src/b/mod.rs"),
            ("my-lib/src/a.rs", "my-lib/src/a/deep.rs"),
            ("my-lib/src/a.rs", "my-lib/src/b/mod.rs"),
            ("my-lib/src/a/deep.rs", "my-lib/src/a.rs"),
            ("my-lib/src/b/mod.rs", "my-lib/src/b/c.rs"),
            ("my-lib/src/b/c.rs", "my-lib/src/lib.rs"),
            ("my-lib/tests/it.rs", "my-lib/tests/common/mod.rs"),
            ("my-lib/tests/it.rs", "my-lib/src/b/mod.rs"),
        },
    ),
    "rust: without Cargo.toml, by the folder's name": (
        {"my-lib/src/lib.rs": "", "app/src/main.rs": "use my_lib::x;\nuse serde::y;\n"},
        {("app/src/main.rs", "my-lib/src/lib.rs")},
    ),
}


@pytest.mark.parametrize(("files", "wanted"), RESOLVED.values(), ids=RESOLVED)
def test_imports_mean_the_files_that_a_compiler_would_take(files: dict[str, str], wanted: set[tuple[str, str]]) -> None:
    assert edges(files) == wanted
    assert edges(dict(reversed(files.items()))) == wanted


def test_languages_name_the_files_whose_path_does_not() -> None:
    imports = {"tool": extract_imports("import lib\n", "python"), "lib.py": ()}
    assert resolve_imports(imports, "repo") == ()
    assert [edge.imported for edge in resolve_imports(imports, "repo", {"tool": "python"})] == ["lib.py"]


PATHS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map("/".join)


@given(st.lists(PATHS, min_size=1, unique=True), PATHS)
def test_the_nearest_file_has_the_most_folders_in_common_and_then_the_first_name(
    paths: list[str], importer: str
) -> None:
    def count_common(path: str) -> int:
        pairs = list(zip(path.split("/")[:-1], importer.split("/")[:-1], strict=False))
        return next((i for i, (left, right) in enumerate(pairs) if left != right), len(pairs))

    assert find_nearest(sorted(paths), importer) == min(paths, key=lambda path: (-count_common(path), path))


@given(st.lists(PATHS, unique=True), PATHS)
def test_what_a_suffix_finds_ends_with_it(paths: list[str], suffix: str) -> None:
    found = SuffixIndex(paths, "root").find(suffix, "")
    ending = [path for path in paths if f"/root/{path}".endswith("/" + suffix)]
    assert (found in ending) if ending else found is None


UNITS = [
    "import ", "import a.", "import {a, ", "export ", "from ", "use a::{", "use ", "using a.", "package a.",
    "#include <",
    '#include "', "mod ", "#[", '#[path = "', "require(", "import(", "import (", "//", "/*", "A.", "a.", "A", "a", "\t",
    " ", "'", '"', "{", "(", ",", "\0", "::", "\nfun ", "\nfun A", "\nfunc ", "\ndata ", "global ", "static ", "\ud800",
    "\nnamespace a",
]  # fmt: skip


@pytest.mark.parametrize("language", RULES)
def test_a_line_of_a_megabyte_takes_linear_time(language: str) -> None:
    for unit in UNITS:
        started_s = time.process_time()
        extract_imports("x\n" + unit * (1_000_000 // len(unit)), language)
        short_s = time.process_time()
        assert short_s - started_s < 2.0, unit


def spoil(texts: Iterable[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from([*UNITS, *texts]) | st.text(max_size=3), max_size=30).map("".join)


@settings(max_examples=200)
@given(st.sampled_from(sorted(RULES)), spoil([text for files, _ in RESOLVED.values() for text in files.values()]))
def test_any_text_is_read_and_resolved_without_an_error(language: str, text: str) -> None:
    imports = extract_imports(text, language)
    assert all(1 <= found.line <= text.count("\n") + 1 for found in imports)
    paths = {"a/x": imports, "a/b/mod": (), "index": imports}
    resolve_imports(
        paths, "hub/", dict.fromkeys(paths, language), {"a/package.json": text, "Cargo.toml": text, "go.mod": text}
    )
