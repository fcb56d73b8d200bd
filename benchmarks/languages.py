"""What is found in repositories of each language, and what it costs: cuts, imports, tests.

    python benchmarks/languages.py REPOSITORY...       # working trees, bare repositories or folders

An import *could* mean a file of the repository if its spelling says so: `#include "..."`, a relative specifier, `mod`
and `crate::`, a leading dot, or a package that a file of the repository declares. Of these the resolved share is
printed; the resolver is asked for each statement alone. No other tool does this for all languages, so there is no peer.
"""

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.listing import list_repository
from codegemma.corpus.read import read_repository
from codegemma.pack.imports import (
    RULES,
    Import,
    ImportKind,
    MakeResolver,
    extract_imports,
    resolve_imports,
)
from codegemma.pack.unit_tests import pair_tests
from codegemma.records import SourceFile
from codegemma.text.languages import LANGUAGES, find_tested_stem, is_build_file
from codegemma.text.syntax import analyze_syntax

MAX_PARSED_FILES = 200  # of each language and repository; the rate needs no more
ASSETS = (".css", ".scss", ".json", ".svg", ".png", ".md", ".mdx", ".html", ".vue", ".node")
Counts = defaultdict[str, Counter[str]]


def list_candidates(language: str, statements: Sequence[Import], packages: set[str]) -> Iterator[Import]:
    """Yield the imports that could mean a file of the repository."""
    own = next((s.module for s in statements if s.kind is ImportKind.DECLARATION), "")
    for statement in statements:
        module = statement.module
        if statement.kind is not ImportKind.IMPORT:
            continue
        if language in ("java", "kotlin"):
            could = (module if statement.names else module.rpartition(".")[0]) in packages
        elif language == "csharp":
            could = module in packages and not f"{own}.".startswith(f"{module}.")  # what is around is in sight anyway
        elif language == "go":
            could = any(module == package or module.startswith(package + "/") for package in packages)
        elif language == "rust":
            could = statement.level > 0 or module.partition("::")[0] in ("crate", "super")
        else:
            could = statement.level > 0 and not module.endswith(ASSETS)
        if could:
            yield statement


def read_build_files(root: Path) -> dict[str, str]:
    """Read go.mod and the like."""
    entries = list_repository(root).entries
    wanted = [entry for entry in entries if entry.refusal is None and is_build_file(entry.path)]
    return {entry.path: entry.read_bytes(1 << 20).decode("utf-8", "replace") for entry in wanted}


def measure_imports(files: list[SourceFile], build_files: dict[str, str], counts: Counts) -> None:
    """Count statements, those that could resolve, those that do, and edges."""
    languages = {file.path: file.language for file in files}
    imports: dict[str, Sequence[Import]] = {}
    for file in files:
        started_s = time.process_time()
        imports[file.path] = extract_imports(file.text, file.language)
        counts[file.language]["extract_us"] += round(1e6 * (time.process_time() - started_s))
        counts[file.language]["bytes"] += len(file.text.encode())
    for edge in resolve_imports(imports, files[0].repo, languages, build_files):
        counts[languages[edge.importer]]["edges"] += 1
    packages = {s.module for found in imports.values() for s in found if s.kind is ImportKind.DECLARATION and s.module}
    modules = [text.split()[1] for path, text in build_files.items() if path.endswith("go.mod")]
    families: defaultdict[MakeResolver, dict[str, Sequence[Import]]] = defaultdict(dict)
    for path, found in imports.items():
        families[RULES[languages[path]].resolver][path] = found
    for make_resolver, family in families.items():
        resolver = make_resolver(family, files[0].repo, build_files)
        for path, found in family.items():
            language = languages[path]
            mentions = [s for s in found if s.kind is ImportKind.MENTION] if language in ("csharp", "go") else []
            alone = set(resolver.find_targets(path, mentions))
            for statement in list_candidates(language, found, set(modules) if language == "go" else packages):
                counts[language]["could"] += 1
                targets = set(resolver.find_targets(path, [statement, *mentions]))
                counts[language]["resolved"] += bool(targets - alone)


def measure_tests(files: list[SourceFile], counts: Counts) -> None:
    """Count test files and those that are paired."""
    languages = {file.path: file.language for file in files}
    pairs = pair_tests(languages)
    for path, language in languages.items():
        counts[language]["tests"] += find_tested_stem(path, language) is not None
        counts[language]["paired"] += path in pairs


def measure_syntax(files: list[SourceFile], counts: Counts) -> None:
    """Count cuts and files that hardly parse."""
    for file in files:
        count = counts[file.language]
        if count["parsed"] >= MAX_PARSED_FILES:
            continue
        started_s = time.process_time()
        syntax = analyze_syntax(file.text, file.language)
        count["parse_us"] += round(1e6 * (time.process_time() - started_s))
        count["parsed"] += 1
        count["parsed_bytes"] += len(file.text.encode())
        count["cuts"] += len(syntax.natural_cuts)
        count["blocks"] += len(syntax.block_starts)
        count["broken"] += syntax.error_share > 0.05


def main() -> None:
    """Print one row for each language of each repository."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repositories", nargs="+", type=Path)
    choices = CorpusChoices(languages=tuple(LANGUAGES))
    print(
        f"{'repository':26}{'language':12}{'files':>6}{'MB':>7}{'parse MB/s':>11}{'cuts/kB':>8}{'blocks/kB':>10}"
        f"{'broken':>7}{'extract MB/s':>13}{'edges':>7}{'could':>7}{'resolved':>9}{'tests':>6}{'paired':>7}"
    )
    for root in parser.parse_args().repositories:
        files = [file for file in read_repository(root, choices) if isinstance(file, SourceFile)]
        counts: Counts = defaultdict(Counter)
        measure_imports(files, read_build_files(root), counts)
        measure_tests(files, counts)
        measure_syntax(files, counts)
        name = (root.parent if root.name in ("repo", ".git") else root).name
        for language, files_count in Counter(file.language for file in files).most_common():
            c = counts[language]
            print(
                f"{name:26}{language:12}{files_count:6,}{c['bytes'] / 1e6:7.2f}"
                f"{c['parsed_bytes'] / max(c['parse_us'], 1):11.1f}{1e3 * c['cuts'] / c['parsed_bytes']:8.1f}"
                f"{1e3 * c['blocks'] / c['parsed_bytes']:10.1f}{c['broken'] / c['parsed']:7.1%}"
                f"{c['bytes'] / max(c['extract_us'], 1):13.0f}{c['edges']:7,}{c['could']:7,}"
                f"{c['resolved'] / max(c['could'], 1):9.1%}{c['tests']:6,}{c['paired'] / max(c['tests'], 1):7.0%}"
            )


if __name__ == "__main__":
    main()
