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


@given(st.text(alphabet='{}[]",:/*\\ \n.aname', max_size=200))
def test_any_manifest_is_read_without_an_error(text: str) -> None:
    NodeManifests({"package.json": text, "a/tsconfig.json": text})


@pytest.mark.parametrize("unit", ["/*", '"\\', ",  ", "[", '{"a":', "//"])
def test_a_hostile_manifest_takes_linear_time(unit: str) -> None:
    """Quadratic time would be hours."""
    NodeManifests({"package.json": unit * 1_000_000, "tsconfig.json": unit * 1_000_000})
