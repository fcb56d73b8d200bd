"""Places unit tests beside what they test, by name: the report's second heuristic (section 2.3).

**In**: paths and languages; an order of paths.
**Out**: which implementation each test belongs to; the order with each test right after its implementation.
**Not**: imports. A test that imports what it tests is paired by its name all the same.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

from codegemma.text.languages import LANGUAGES, find_project, find_tested_stem, is_test_path, split_path

# Files named for what they are in their folder, not for what they hold.
FOLDER_STEMS = frozenset({"index", "mod", "__init__"})
# Names that two files share by chance.
COMMON_STEMS = frozenset(
    {"build", "common", "config", "helper", "helpers", "lib", "main", "setup", "types", "util", "utils"}
)
LAST_WORD = re.compile(r"(?:[_.-][^_.-]+|[A-Z][a-z\d]*|[A-Z]+|\d+)$")


def pair_tests(languages: Mapping[str, str]) -> dict[str, str]:
    """Find the implementation of each test file among `languages`, which maps every path to its language.

    A namesake with the most folder names in common is taken, then the one closest to the top, then the first by name.
    Without a namesake, `FooAsyncTest` and `foo_async_test` belong to the `Foo` or `foo` in a folder of the same name.

    >>> pair_tests({"src/lib/app.py": "python", "tests/test_app.py": "python", "lib/web.py": "python"})
    {'tests/test_app.py': 'src/lib/app.py'}
    """
    paths_of: defaultdict[_Key, list[str]] = defaultdict(list)
    for path, language in languages.items():
        if not is_test_path(path, language):
            paths_of[LANGUAGES[language].family, _stem(path)].append(path)
    namesakes = _Namesakes(paths_of)
    pairs = {}
    for path, language in sorted(languages.items()):
        named = find_tested_stem(path, language)
        tested = _find_tested(path, language, named, namesakes) if named else None
        if tested is not None:
            pairs[path] = tested
    return pairs


_Key = tuple[str, str]  # a family of languages and a stem


class _Namesakes:
    """Implementations by what they are named, and those of one name by the folders that they lie below."""

    def __init__(self, paths_of: Mapping[_Key, Sequence[str]]) -> None:
        self._paths_of = paths_of
        self._below: dict[_Key, Mapping[str, Sequence[str]]] = {}

    def find_closest(self, test: str, key: _Key, is_meant: Callable[[str], bool]) -> str | None:
        """Find the closest of those that are meant; few are looked at where the folders of a test say whose it is."""
        if key not in self._paths_of:
            return None
        below = self._below.get(key) or self._below.setdefault(key, _list_below(self._paths_of[key]))
        rarest_first = sorted((below[name] for name in {*split_path(test)[0]} if name in below), key=len)
        best = None
        # Whoever lies below none of the first folders has no more in common than the number of the others.
        for others, paths in zip(range(len(rarest_first) - 1, -1, -1), rarest_first, strict=True):
            found = (_closeness(test, path) for path in paths if is_meant(path))
            best = min(found if best is None else chain([best], found), default=None)
            if best is not None and -best[0] > others:
                break
        if best is None:
            best = min((_closeness(test, path) for path in self._paths_of[key] if is_meant(path)), default=None)
        return best and best[2]


def _list_below(paths: Iterable[str]) -> Mapping[str, Sequence[str]]:
    below: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        for folder in {*split_path(path)[0]}:
            below[folder].append(path)
    return below


def _find_tested(test: str, language: str, stem: str, namesakes: _Namesakes) -> str | None:
    family = LANGUAGES[language].family
    if stem == _stem(test):  # only its folder says that it is a test, and only its name whose
        project = find_project(test, language)
        inside = f"{project}/" if project else ""
        return None if stem in COMMON_STEMS else namesakes.find_closest(test, (family, stem), _begins_with(inside))
    found = namesakes.find_closest(test, (family, stem), _begins_with(""))
    while found is None and (shorter := LAST_WORD.sub("", stem)) != stem:
        stem = shorter
        found = namesakes.find_closest(test, (family, stem), lambda path: _shares_folder(test, path))
    return found


def _begins_with(start: str) -> Callable[[str], bool]:
    return lambda path: path.startswith(start)


def _shares_folder(test: str, implementation: str) -> bool:
    return split_path(test)[0][-1:] == split_path(implementation)[0][-1:]


def _closeness(test: str, implementation: str) -> tuple[int, int, str]:
    folders, _ = split_path(implementation)
    shared = set(split_path(test)[0]) & set(folders)
    return -len(shared), len(folders), implementation


def _stem(path: str) -> str:
    folders, stem = split_path(path)
    return "".join(folders[-1:]) if stem in FOLDER_STEMS else stem


def place_tests(order: Iterable[str], pairs: Mapping[str, str]) -> tuple[str, ...]:
    """Move each test right behind its implementation, where both are in `order`; several tests of one go by name.

    >>> place_tests(["a", "b", "test_a"], {"test_a": "a"})
    ('a', 'test_a', 'b')
    """
    order = list(order)
    present = set(order)
    tests = defaultdict(list)
    for test, implementation in sorted(pairs.items()):
        if test in present and implementation in present:
            tests[implementation].append(test)
    moved = {test for group in tests.values() for test in group}
    return tuple(place for path in order if path not in moved for place in (path, *tests[path]))
