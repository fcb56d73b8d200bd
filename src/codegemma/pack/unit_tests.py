"""Places unit tests beside what they test, by name: the report's second heuristic (section 2.3).

**In**: paths and languages; an order of paths.
**Out**: which implementation each test belongs to; the order with each test right after its implementation.
**Not**: imports. A test that imports what it tests is paired by its name all the same.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from codegemma.text.languages import find_tested_stem, is_test_path


def pair_tests(languages: Mapping[str, str]) -> dict[str, str]:
    """Find the implementation of each test file among `languages`, which maps every path to its language.

    A namesake with the most folder names in common is taken, then the one closest to the top, then the first by name.

    >>> pair_tests({"src/lib/app.py": "python", "tests/test_app.py": "python", "lib/web.py": "python"})
    {'tests/test_app.py': 'src/lib/app.py'}
    """
    implementations = defaultdict(list)
    for path, language in languages.items():
        if not is_test_path(path, language):
            implementations[language, _stem(path)].append(path)
    pairs = {}
    for path, language in sorted(languages.items()):
        stem = find_tested_stem(path, language)
        if stem is not None and (namesakes := implementations.get((language, stem))):
            pairs[path] = min(namesakes, key=lambda namesake: _closeness(path, namesake))
    return pairs


def _closeness(test: str, implementation: str) -> tuple[int, int, str]:
    folders = PurePosixPath(implementation).parent.parts
    shared = set(PurePosixPath(test).parent.parts) & set(folders)
    return -len(shared), len(folders), implementation


def _stem(path: str) -> str:
    return PurePosixPath(path).stem


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
