"""Reads which files of a repository import which: statements from the top of each file, resolved to paths.

**In**: a file's text; then the imports of every file of one repository, and what its build files say.
**Out**: `Import` statements; `Edge`s between files, with how many names they carry.
**Not**: a compiler. It is a best effort on text: an import inside a string counts, and one made at run time does not.
Each family of languages has its module in `import_rules/`; a language without one has no edges and is packed by name.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from codegemma.pack.import_rules import c_family, csharp, go, javascript, jvm, packages, python, rust
from codegemma.pack.import_rules.statement import Import, ImportKind, Resolver, find_top_end
from codegemma.text.languages import detect_language

__all__ = ["Edge", "Import", "ImportKind", "extract_imports", "resolve_imports"]

MakeResolver = Callable[[Mapping[str, Sequence[Import]], str, Mapping[str, str]], Resolver]


class ImportRule(NamedTuple):
    """How a language's imports are read, and which files they are looked for among: those with the same resolver."""

    extract: Callable[[str, int], Iterable[Import]]
    resolver: MakeResolver


RULES: Final[Mapping[str, ImportRule]] = MappingProxyType(
    {
        "c": ImportRule(c_family.extract, c_family.Headers),
        "cpp": ImportRule(c_family.extract, c_family.Headers),
        "csharp": ImportRule(csharp.extract, csharp.NestedNamespaces),
        "go": ImportRule(go.extract, go.GoPackages),
        "java": ImportRule(jvm.extract_java, packages.Namespaces),
        "javascript": ImportRule(javascript.extract, javascript.Scripts),
        "kotlin": ImportRule(jvm.extract_kotlin, packages.Namespaces),
        "python": ImportRule(python.extract, python.Modules),
        "rust": ImportRule(rust.extract, rust.Crates),
        "tsx": ImportRule(javascript.extract, javascript.Scripts),
        "typescript": ImportRule(javascript.extract, javascript.Scripts),
    }
)


class Edge(NamedTuple):
    """`importer` imports `weight` names or modules from the file `imported`; both are paths."""

    importer: str
    imported: str
    weight: int


def extract_imports(text: str, language: str, top_lines: int = 200) -> tuple[Import, ...]:
    """Read the import statements that begin in the first `top_lines` lines; none for a language without a rule.

    >>> for statement in extract_imports("import a.b as c\\nfrom ..d import (e,  # why\\n  f as g)\\n", "python"):
    ...     print(statement.module, statement.names, statement.level, statement.line)
    a.b () 0 1
    d ('e', 'f') 2 2
    """
    rule = RULES.get(language)
    return tuple(rule.extract(text, find_top_end(text, top_lines))) if rule else ()


def resolve_imports(
    imports: Mapping[str, Sequence[Import]],
    repo: str,
    languages: Mapping[str, str] = MappingProxyType({}),
    build_files: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Edge, ...]:
    """Find the files that imports mean, by the longest path suffix; sorted, one edge for each pair of files.

    `imports` has a key for every file of the repository. The folder `repo` itself may be the package that is imported.
    `languages` names the language of a path that does not say it; `build_files` maps paths of build files (see
    `languages.toml`) to their text, without which module names are inferred from the paths.

    >>> use_helper = Import("lib.helper", ("x", "y"), 0, 1)
    >>> resolve_imports({"src/lib/app.py": [use_helper], "src/lib/helper.py": []}, repo="lib-repo")
    (Edge(importer='src/lib/app.py', imported='src/lib/helper.py', weight=2),)
    """
    families: defaultdict[MakeResolver, dict[str, Sequence[Import]]] = defaultdict(dict)
    for path, statements in sorted(imports.items()):
        rule = RULES.get(languages.get(path) or _find_language(path))
        if rule is not None:
            families[rule.resolver][path] = statements
    weights: Counter[tuple[str, str]] = Counter()
    for make_resolver, family in families.items():
        index = make_resolver(family, repo, build_files)
        for path, statements in family.items():
            weights.update((path, target) for target in index.find_targets(path, statements) if target != path)
    return tuple(sorted(Edge(*ends, weight) for ends, weight in weights.items()))


def _find_language(path: str) -> str:
    language = detect_language(path, "")
    return language.name if language else ""
