"""What package.json and tsconfig.json say about names of modules: packages, their entries, and aliases.

**In**: build files by path.
**Out**: for a module's name, the paths without extension that it may mean, the likeliest first.
**Not**: whether a file is there (`javascript.py`). `extends` is not followed: the configurations of the folders around
a file are asked in turn, which is what they mostly extend.
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from codegemma.pack.import_rules.statement import find_folder, join_path

# TypeScript's configuration is JSON with comments and commas before closing brackets. What is not closed runs on, so
# that nothing is read twice.
_COMMENT_OR_TEXT = re.compile(r'"(?:[^"\\\n]|\\.)*+"?|(//[^\n]*+|/\*[^*]*+(?:\*(?!/)[^*]*+)*+(?:\*/)?)', re.DOTALL)
_COMMA_OR_TEXT = re.compile(r'"(?:[^"\\\n]|\\.)*+"?|(,(?=\s*+[}\]]))')
# Where compilers write, and the folder of what they read.
_OUTPUT_FOLDERS = frozenset({"dist", "lib", "build", "out", "es", "esm", "cjs", "umd", "types", "module", "bundle"})
_SOURCES = ("src", "lib", "")
_EXTENSION = re.compile(r"(?:\.d)?\.[cm]?[jt]sx?$")
# Conditions of `exports` within each other, targets of one name, names in one file: more are made to exhaust a machine.
_MAX_DEPTH, _MAX_TARGETS, _MAX_NAMES = 8, 32, 1_000
# The entry of a package without `exports`, as a program on its source would want it.
_ENTRY_FIELDS = ("source", "module", "main", "types", "typings")


class Alias(NamedTuple):
    """A name that may hold one `*`, and what it stands for: paths from the top of the repository."""

    before: str
    after: str | None
    targets: tuple[str, ...]

    def expand(self, name: str) -> Iterator[str]:
        """Yield the paths that a name means; none if it is not of this form."""
        if self.after is None:
            yield from self.targets if name == self.before else ()
            return
        length = len(name) - len(self.before) - len(self.after)
        if length >= 0 and name.startswith(self.before) and name.endswith(self.after):
            inside = name[len(self.before) :][:length]
            yield from (target.replace("*", inside, 1) for target in self.targets)


class NodeManifests:
    """All packages and aliases of a repository."""

    def __init__(self, build_files: Mapping[str, str]) -> None:
        """Read them; a broken one says nothing."""
        self.packages: dict[str, str] = {}
        self._entries: dict[str, list[Alias]] = {}
        self._aliases: dict[str, list[Alias]] = {}
        for path, text in sorted(build_files.items()):
            name, folder = path.rpartition("/")[2], find_folder(path)
            if name == "package.json" and (manifest := _read_json(text)):
                if isinstance(manifest.get("name"), str):
                    self.packages[manifest["name"]] = folder
                    self._entries[folder] = list(_read_entries(manifest, folder))
                self._add_aliases(folder, _read_aliases(manifest.get("imports"), folder))
            elif name.endswith(".json") and name.startswith(("tsconfig", "jsconfig")) and (config := _read_json(text)):
                options = config.get("compilerOptions")
                self._add_aliases(folder, _read_compiler_paths(options if isinstance(options, dict) else {}, folder))

    def _add_aliases(self, folder: str, aliases: Iterator[Alias]) -> None:
        found = sorted([*self._aliases.get(folder, ()), *aliases], key=lambda alias: -len(alias.before))
        if found:
            self._aliases[folder] = found

    def expand_alias(self, name: str, importer: str) -> Iterator[str]:
        """Yield what a name means to a file by the configurations around it, the nearest first."""
        folder = importer if self._aliases else ""
        while folder:
            folder = find_folder(folder)
            for alias in self._aliases.get(folder, ()):
                yield from alias.expand(name)

    def expand_entry(self, package: str, rest: str) -> Iterator[str]:
        """Yield what `package/rest` means by the package's own entries, as written and as the source of it."""
        for alias in self._entries.get(self.packages[package], ()):
            for target in alias.expand(f"./{rest}" if rest else "."):
                yield from _find_sources(target, self.packages[package])


def _read_json(text: str) -> dict[str, Any]:
    plain = _COMMENT_OR_TEXT.sub(lambda match: " " if match[1] else match[0], text)
    plain = _COMMA_OR_TEXT.sub(lambda match: "" if match[1] else match[0], plain)
    try:
        content = json.loads(plain)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _read_entries(manifest: dict[str, Any], folder: str) -> Iterator[Alias]:
    exports = manifest.get("exports")
    is_map = isinstance(exports, dict) and any(str(key).startswith(".") for key in exports)
    yield from _read_aliases(exports if is_map else {".": exports}, folder)
    yield from _read_aliases({".": [manifest.get(field) for field in _ENTRY_FIELDS]}, folder)


def _read_aliases(table: object, folder: str) -> Iterator[Alias]:
    for name, value in islice(table.items(), _MAX_NAMES) if isinstance(table, dict) else ():
        targets = [joined for target in _list_targets(value) if (joined := join_path(folder, target))]
        before, star, after = str(name).partition("*")
        if targets:
            yield Alias(before, after if star else None, tuple(dict.fromkeys(targets))[:_MAX_TARGETS])


def _list_targets(value: object, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth < _MAX_DEPTH and isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _list_targets(inner, depth + 1)


def _read_compiler_paths(options: dict[str, Any], folder: str) -> Iterator[Alias]:
    base_url = options.get("baseUrl")
    base = join_path(folder, base_url) if isinstance(base_url, str) else None
    yield from _read_aliases(options.get("paths"), folder if base is None else base)
    if base is not None:
        yield from _read_aliases({"*": "*"}, base)


def _find_sources(target: str, folder: str) -> Iterator[str]:
    """Yield a path, and where the source of it would be if a compiler wrote it; without extension.

    >>> list(_find_sources("libs/a/dist/esm/b.d.ts", "libs/a"))
    ['libs/a/dist/esm/b', 'libs/a/src/b', 'libs/a/lib/b', 'libs/a/b']
    """
    stem = _EXTENSION.sub("", target)
    yield stem
    parts = stem.removeprefix(f"{folder}/").split("/")
    inside = next((start for start, part in enumerate(parts) if part not in _OUTPUT_FOLDERS), len(parts))
    if 0 < inside < len(parts):
        for source in _SOURCES:
            yield "/".join(filter(None, (folder, source, *parts[inside:])))
