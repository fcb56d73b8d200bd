"""Knows which files of a folder explain each other, by the import graph that packs are made of in training.

**In**: a folder, read in the background and looked at again now and then.
**Out**: for a file, the files that it imports, what they import, its tests or what it tests: dependencies first.
**Not**: how many of them fit, or files that look like secrets: those are not even read.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from codegemma.corpus.listing import list_repository
from codegemma.errors import InputError
from codegemma.pack.graph import break_cycles, order_dependencies
from codegemma.pack.imports import RULES, Edge, Import, extract_imports, resolve_imports
from codegemma.pack.unit_tests import pair_tests
from codegemma.records import Neighbor
from codegemma.serve.secret_files import has_secret_name
from codegemma.text.languages import detect_language, is_build_file

_MAX_FILE_BYTES = 400_000
_MAX_IMPORTED, _MAX_INDIRECT, _MAX_TESTS = 8, 4, 2
# The folder is looked at again after so long, or after so many times the time that a look takes.
_LEAST_PAUSE_S = 5.0
_PAUSE_SHARE = 20.0


@dataclass(frozen=True, slots=True)
class _File:
    stamp: str
    language: str
    imports: tuple[Import, ...]


@dataclass(frozen=True, slots=True)
class _Index:
    """What is known at one moment; replaced as a whole."""

    files: Mapping[str, _File] = field(default_factory=dict)
    build_files: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    edges: Mapping[str, tuple[Edge, ...]] = field(default_factory=dict)
    tests: Mapping[str, str] = field(default_factory=dict)


class Workspace:
    """A folder. `start` reads it in a thread; until that is done it knows nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._index = _Index()
        self._is_closed = threading.Event()
        self._is_asked = threading.Event()

    def start(self) -> None:
        """Begin to read and to look again, while somebody asks."""
        threading.Thread(target=self._watch, name="workspace", daemon=True).start()

    def close(self) -> None:
        """Stop looking."""
        self._is_closed.set()
        self._is_asked.set()

    def refresh(self) -> None:
        """Look at the folder now; only what has changed is read.

        Raises:
            InputError: it cannot be read, or holds nothing.
        """
        old = self._index
        files, build_files = {}, {}
        for entry in list_repository(self.root).entries:
            if entry.refusal is not None or entry.size_bytes > _MAX_FILE_BYTES or has_secret_name(entry.path):
                continue
            known = old.files.get(entry.path)
            if known is not None and known.stamp == entry.stamp:
                files[entry.path] = known
            elif (language := detect_language(entry.path, "")) is not None:
                text = self._read(entry.path) or ""
                files[entry.path] = _File(entry.stamp, language.name, extract_imports(text, language.name))
            if is_build_file(entry.path):
                told = old.build_files.get(entry.path)
                is_same = told is not None and told[0] == entry.stamp
                build_files[entry.path] = told if is_same and told else (entry.stamp, self._read(entry.path) or "")
        if (files, build_files) != (old.files, old.build_files):
            self._index = self._link(files, build_files)

    def list_neighbors(self, path: str, text: str) -> Iterable[Neighbor]:
        """List files that explain the one at `path`, whose text up to the cursor is `text`; the nearest last."""
        self._is_asked.set()
        index, name = self._index, self.find_path(path)
        if name is None:
            return
        for other in self._order(index, self._choose(index, name, text), name):
            content = self._read(other)
            if content is not None:
                yield Neighbor(other, content)

    def find_path(self, path: str) -> str | None:
        """Find what a client's path means here: relative to the folder, absolute, a URI, or the end of one path."""
        if path.startswith("file://"):
            path = unquote(urlsplit(path).path)
        pure = PurePosixPath(path.replace("\\", "/"))
        if pure.is_absolute():
            root = PurePosixPath(self.root.as_posix())
            return pure.relative_to(root).as_posix() if pure.is_relative_to(root) else None
        if path in self._index.files:
            return path
        ends = [known for known in self._index.files if known.endswith(f"/{pure.as_posix()}")]
        return ends[0] if len(ends) == 1 else pure.as_posix()

    def _watch(self) -> None:
        while not self._is_closed.is_set():
            started = time.monotonic()
            with suppress(InputError):  # gone, or empty so far: it is looked at again
                self.refresh()
            took = time.monotonic() - started
            self._is_closed.wait(max(_LEAST_PAUSE_S, took * _PAUSE_SHARE))
            self._is_asked.clear()
            if not self._is_closed.is_set():  # or nobody would ask any more
                self._is_asked.wait()

    def _link(self, files: Mapping[str, _File], build_files: Mapping[str, tuple[str, str]]) -> _Index:
        languages = {path: file.language for path, file in files.items()}
        texts = {path: text for path, (_, text) in build_files.items()}
        imports = {path: file.imports for path, file in files.items()}
        by_importer: dict[str, list[Edge]] = {}
        for edge in resolve_imports(imports, self.root.name, languages, texts):
            by_importer.setdefault(edge.importer, []).append(edge)
        return _Index(files, build_files, {k: tuple(v) for k, v in by_importer.items()}, pair_tests(languages))

    def _choose(self, index: _Index, name: str, text: str) -> list[str]:
        """Choose by weight: what the file imports, what that imports, tests."""
        weights = self._read_imports(index, name, text)
        imported = [path for path, _ in weights.most_common(_MAX_IMPORTED)]
        further = Counter({e.imported: e.weight for path in imported for e in index.edges.get(path, ())})
        indirect = [p for p, _ in further.most_common() if p not in weights and p != name][:_MAX_INDIRECT]
        tests = [test for test, tested in index.tests.items() if tested == name][:_MAX_TESTS]
        tested = [index.tests[name]] if name in index.tests else []
        return list(dict.fromkeys([*tests, *indirect, *imported, *tested]))

    def _read_imports(self, index: _Index, name: str, text: str) -> Counter[str]:
        """Read what the file imports as it is in the editor; of a file without a rule, nothing."""
        file = index.files.get(name)
        language = file.language if file else getattr(detect_language(name, ""), "name", "")
        if language not in RULES:
            return Counter()
        statements = extract_imports(text, language)
        if file is not None and statements == file.imports:
            return Counter({edge.imported: edge.weight for edge in index.edges.get(name, ())})
        rule = RULES[language]
        family = {
            path: other.imports
            for path, other in index.files.items()
            if other.language in RULES and RULES[other.language].resolver == rule.resolver
        }
        texts = {path: told for path, (_, told) in index.build_files.items()}
        targets = rule.resolver(family | {name: statements}, self.root.name, texts).find_targets(name, statements)
        return Counter(target for target in targets if target != name)

    def _order(self, index: _Index, chosen: list[str], name: str) -> list[str]:
        """Put dependencies before what imports them; tests of the file first, what it tests last."""
        among = set(chosen)
        edges = [e for path in chosen for e in index.edges.get(path, ()) if e.imported in among]
        order = order_dependencies(chosen, break_cycles(edges).kept)
        tested = index.tests.get(name)
        return sorted(order, key=lambda path: (index.tests.get(path) != name, path == tested))

    def _read(self, path: str) -> str | None:
        """Read a file as it is now; of one that is no text, nothing."""
        file = self.root / path
        try:
            if file.is_symlink() or not file.is_file() or file.stat().st_size > _MAX_FILE_BYTES:
                return None
            return file.read_bytes().decode("utf-8").removeprefix("\ufeff")
        except (OSError, UnicodeDecodeError):
            return None
