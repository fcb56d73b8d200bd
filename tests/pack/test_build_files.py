"""What build files say of the names of modules, in each language that has such files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.pack.import_rules.node_manifests import NodeManifests
from codegemma.pack.imports import extract_imports, resolve_imports
from codegemma.text.languages import detect_language, is_build_file


def edges(files: dict[str, str], repo: str = "hub/repo") -> set[tuple[str, str]]:
    sources = {path: detect_language(path, "") for path in files}
    imports = {path: extract_imports(files[path], language.name) for path, language in sources.items() if language}
    build_files = {path: text for path, text in files.items() if is_build_file(path)}
    return {(edge.importer, edge.imported) for edge in resolve_imports(imports, repo, build_files=build_files)}


MONEY = '{"name": "@shop/money", "main": "dist/price.js"}'
EXPORTS = """{"name": "cash", "exports": {
    ".": {"import": {"types": "./dist/main.d.mts", "default": "./dist/main.mjs"}},
    "./adapters/*": "./dist/esm/adapters/*.js", "./secret": null}}"""
ALIASES = """{ // the paths are from the folder of this file
    "extends": "../base.json", "compilerOptions": {"baseUrl": ".", "paths": {"@app/*": ["src/app/*",], /* old */},},
}"""


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"libs/cash/package.json": MONEY, "libs/cash/src/price.ts": "", "web/a.ts": "import '@shop/money'"},
         {("web/a.ts", "libs/cash/src/price.ts")}),
        ({"cash/package.json": EXPORTS, "cash/src/main.mts": "", "a.ts": "import 'cash'"},
         {("a.ts", "cash/src/main.mts")}),
        ({"cash/package.json": EXPORTS, "cash/src/adapters/x.ts": "", "a.ts": "import 'cash/adapters/x'"},
         {("a.ts", "cash/src/adapters/x.ts")}),
        ({"cash/package.json": EXPORTS, "cash/lib/adapters/x.js": "", "a.js": "require('cash/adapters/x')"},
         {("a.js", "cash/lib/adapters/x.js")}),
        ({"web/tsconfig.json": ALIASES, "web/src/app/b.ts": "", "web/src/a.ts": "import '@app/b'"},
         {("web/src/a.ts", "web/src/app/b.ts")}),
        ({"web/tsconfig.json": ALIASES, "web/src/app/b.ts": "", "a.ts": "import '@app/b'"}, set()),
        ({"web/tsconfig.json": ALIASES, "web/src/b/index.tsx": "", "web/src/a.ts": "import 'src/b'"},
         {("web/src/a.ts", "web/src/b/index.tsx")}),
        ({"package.json": '{"imports": {"#db/*": "./src/db/*.js"}}', "src/db/x.ts": "", "b/a.ts": "import '#db/x'"},
         {("b/a.ts", "src/db/x.ts")}),
        ({"package.json": '{"name": 3, "imports": [[["#a"]]], "exports": 7}', "a.js": "import '#a'"}, set()),
        ({"tsconfig.json": '{"compilerOptions": {"paths": {"*": ["../*"]}}}', "a.js": "import 'b'", "b.js": ""}, set()),
    ],
    ids=["main", "exports", "exports_star", "as_written", "paths", "not_above", "base_url", "#", "wrong", "outside"],
)  # fmt: skip
def test_scripts_are_found_by_package_json_and_tsconfig(files: dict[str, str], wanted: set[tuple[str, str]]) -> None:
    assert edges(files) == wanted


TYPE = "namespace Lib.Text;\npublic class Reader {}\n"
USES = "namespace App;\nclass Run { Reader r; }\n"
TWO = """namespace Lib {
    namespace Text {
        class Reader {
            class Inner {}
        }
    }
}
namespace Other {
    class Writer {}
}
"""


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"l/R.cs": TYPE, "a/A.cs": USES}, set()),
        ({"l/R.cs": TYPE, "a/A.cs": USES, "b/G.cs": "global using Lib.Text;\n"}, {("a/A.cs", "l/R.cs")}),
        ({"l/R.cs": TYPE, "a/A.cs": USES, "b/G.cs": "global using Lib.Text;\n", "b/B.csproj": ""}, set()),
        ({"l/R.cs": TYPE, "a/x/A.cs": USES, "a/A.csproj": '<Project><Using Include="Lib.Text" /></Project>'},
         {("a/x/A.cs", "l/R.cs")}),
        ({"l/R.cs": TYPE, "a/A.cs": USES, "Directory.Build.props": "<Using Include='Lib.Text'/>"},
         {("a/A.cs", "l/R.cs")}),
        ({"l/R.cs": TYPE, "a/A.cs": USES, "a/A.csproj": '<Using Include="Lib.Text" Alias="T" />'}, set()),
        ({"l/Two.cs": TWO, "A.cs": "using Lib.Text;\n" + USES}, {("A.cs", "l/Two.cs")}),
        ({"l/Two.cs": TWO, "A.cs": "using Other;\n" + USES}, set()),
        ({"l/Two.cs": TWO, "A.cs": "using Lib.Text;\nclass B { Inner i; }\n"}, set()),
        ({"NoteAttribute.cs": "namespace N;\nclass NoteAttribute {}\n", "A.cs": "using N;\n[Note]\nclass B {}\n"},
         {("A.cs", "NoteAttribute.cs")}),
        ({"E.cs": "namespace N;\nstatic class E {\n    static int Trim<T>(this T x) => 1;\n}\n",
          "A.cs": "using N;\nclass B { int Run() => y.Trim(2); }\n"}, {("A.cs", "E.cs")}),
        ({"E.cs": "namespace N;\nstatic class E {\n    static int Trim(this int x) => 1;\n}\nclass F {}\n",
          "G.cs": "namespace N;\nclass G {}\n", "A.cs": "using N;\nclass B { G g; int Run() => y.Trim(2); }\n"},
         {("A.cs", "G.cs")}),
        ({"R.cs": TYPE, "A.cs": "using Lib.Text;\nclass B {\n" + 300 * "    int i;\n" + "    Reader r;\n}\n"},
         {("A.cs", "R.cs")}),
        ({"P.cs": "namespace N;\npartial class P {}\n", "P.Io.cs": "namespace N;\npartial class P {}\n",
          "A.cs": "using N;\nclass B { P p; }\n"}, {("A.cs", "P.cs"), ("P.Io.cs", "P.cs")}),
    ],
    ids=["no_using", "global", "other_project", "project_item", "for_all_projects", "alias", "nested", "not_there",
         "within_a_type", "attribute", "extension", "not_if_a_type_is_named", "far_below", "partial"],
)  # fmt: skip
def test_the_types_that_a_file_names_tell_which_files_its_usings_mean(
    files: dict[str, str], wanted: set[tuple[str, str]]
) -> None:
    assert edges(files) == wanted


SETUPTOOLS = """[tool.setuptools.package-dir]
shop = "source"
"""
SETUP_CFG = """[options]
package_dir =
    shop.core = source
"""
CARGO = '[package]\nname = "big-lib"\n[lib]\npath = "src/begin.rs"\n[[bin]]\nname = "x"\npath = "tools/run.rs"\n'
USER = '[package]\nname = "user"\n[dependencies]\nsmall = { package = "big-lib", path = "../lib" }\n'
GO = "module x.org/app\n\nreplace x.org/old/lib v1.2.0 => ./third/lib\n"


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"pyproject.toml": SETUPTOOLS, "source/a.py": "", "b.py": "from shop.a import x"}, {("b.py", "source/a.py")}),
        ({"w/setup.cfg": SETUP_CFG, "w/source/a.py": "", "b.py": "import shop.core.a"}, {("b.py", "w/source/a.py")}),
        ({"pyproject.toml": '[tool.maturin]\npython-source = "py/lib"\n', "py/lib/queue/a.py": "",
          "b.py": "import queue.a"}, {("b.py", "py/lib/queue/a.py")}),
        ({"pyproject.toml": "[tool.poetry]\npackages = [{from = 3}, 4]\n[tool.pdm]\nbuild = []\n", "b.py": "import c"},
         set()),
        ({"lib/Cargo.toml": CARGO, "lib/src/begin.rs": "mod part;\n", "lib/src/part.rs": "use crate::Thing;\n"},
         {("lib/src/begin.rs", "lib/src/part.rs"), ("lib/src/part.rs", "lib/src/begin.rs")}),
        ({"lib/Cargo.toml": CARGO, "lib/src/begin.rs": "", "u/src/lib.rs": "use big_lib::A;\n"},
         {("u/src/lib.rs", "lib/src/begin.rs")}),
        ({"lib/Cargo.toml": CARGO, "u/Cargo.toml": USER, "lib/src/begin.rs": "", "u/src/lib.rs": "use small::A;\n"},
         {("u/src/lib.rs", "lib/src/begin.rs")}),
        ({"lib/Cargo.toml": CARGO, "lib/tools/run.rs": "mod help;\n", "lib/tools/help.rs": ""},
         {("lib/tools/run.rs", "lib/tools/help.rs")}),
        ({"Cargo.toml": "[lib]\npath = 3\n[bin]\n[dependencies]\na = []\n", "src/lib.rs": "mod b;\n", "src/b.rs": ""},
         {("src/lib.rs", "src/b.rs")}),
        ({"go.mod": GO, "third/lib/l.go": "package lib\nfunc F() {}\n",
          "a.go": 'package main\nimport "x.org/old/lib"\nfunc main() { lib.F() }\n'}, {("a.go", "third/lib/l.go")}),
    ],
    ids=["setuptools", "setup_cfg", "maturin", "wrong_python", "lib_path", "crate", "renamed", "bin_path", "wrong_rust",
         "replace"],
)  # fmt: skip
def test_manifests_of_python_rust_and_go_say_where_modules_lie(
    files: dict[str, str], wanted: set[tuple[str, str]]
) -> None:
    assert edges(files) == wanted


@given(st.text(alphabet='{}[]",:/*\\ \n.aname=<>', max_size=200))
def test_any_manifest_is_read_without_an_error(text: str) -> None:
    NodeManifests({"package.json": text, "a/tsconfig.json": text})
    for name in ("pyproject.toml", "setup.cfg", "Cargo.toml", "go.mod", "A.csproj"):
        edges({name: text, "a.py": "import b", "a.rs": "use b;", "a.go": 'import "b"', "a.cs": "using B;"})


@pytest.mark.parametrize("text", ["a = " + "1" * 5_000, "a." * 300_000 + "a = 1"], ids=["digits", "points"])
@pytest.mark.parametrize("name", ["pyproject.toml", "Cargo.toml"])
def test_a_manifest_that_toml_chokes_on_says_nothing(name: str, text: str) -> None:
    """The first is an error of another kind than bad TOML; the second would take an hour."""
    assert edges({name: text, "a.py": "import b", "b.py": "", "src/lib.rs": "mod c;", "src/c.rs": ""}) == {
        ("a.py", "b.py"), ("src/lib.rs", "src/c.rs")
    }  # fmt: skip


@pytest.mark.parametrize("unit", ["/*", '"\\', ",  ", "[", '{"a":', "//"])
def test_a_hostile_manifest_takes_linear_time(unit: str) -> None:
    """Quadratic time would be hours."""
    NodeManifests({"package.json": unit * 1_000_000, "tsconfig.json": unit * 1_000_000})
