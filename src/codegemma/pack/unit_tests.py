"""Places unit tests beside what they test, by name: the report's second heuristic (section 2.3).

**In**: paths and languages; an order of paths.
**Out**: which implementation each test belongs to; the order with each test right after its implementation.
**Not**: imports. A test that imports what it tests is paired by its name all the same.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

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
    implementations = defaultdict(list)
    for path, language in languages.items():
        if not is_test_path(path, language):
            implementations[LANGUAGES[language].family, _stem(path)].append(path)
    pairs = {}
    for path, language in sorted(languages.items()):
        named = find_tested_stem(path, language)
        namesakes = _find_namesakes(path, language, named, implementations) if named else []
        if namesakes:
            pairs[path] = min(namesakes, key=lambda namesake: _closeness(path, namesake))
    return pairs


def _find_namesakes(
    test: str, language: str, stem: str, implementations: Mapping[tuple[str, str], Sequence[str]]
) -> Sequence[str]:
    family = LANGUAGES[language].family
    if stem == _stem(test):  # only its folder says that it is a test, and only its name whose
        project = find_project(test, language)
        inside = f"{project}/" if project else ""
        namesakes = () if stem in COMMON_STEMS else implementations.get((family, stem), ())
        return [path for path in namesakes if path.startswith(inside)]
    namesakes = implementations.get((family, stem), ())
    while not namesakes and (shorter := LAST_WORD.sub("", stem)) != stem:
        stem = shorter
        namesakes = [path for path in implementations.get((family, stem), ()) if _shares_folder(test, path)]
    return namesakes


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
