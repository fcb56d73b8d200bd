import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.pack.unit_tests import pair_tests, place_tests


@pytest.mark.parametrize(
    ("test", "implementation", "language"),
    [
        ("test_foo.py", "foo.py", "python"),
        ("pkg/foo_test.py", "pkg/foo.py", "python"),
        ("tests/test_foo.py", "src/pkg/foo.py", "python"),
        ("src/test/java/a/FooTest.java", "src/main/java/a/Foo.java", "java"),
        ("foo_test.go", "foo.go", "go"),
        ("ui/button.spec.ts", "ui/button.ts", "typescript"),
    ],
)
def test_tests_are_paired_with_what_they_test_in_every_language(test: str, implementation: str, language: str) -> None:
    other = implementation.replace("oo", "ar").replace("button", "menu")
    assert pair_tests({test: language, implementation: language, other: language}) == {test: implementation}


def test_the_namesake_with_the_most_folders_in_common_is_meant() -> None:
    paths = ["tests/net/test_io.py", "src/net/io.py", "src/disk/io.py", "io.py", "net/tests/io.py"]
    assert pair_tests(dict.fromkeys(paths, "python")) == {"tests/net/test_io.py": "src/net/io.py"}
    assert pair_tests(dict.fromkeys(["t/test_io.py", "b/io.py", "a/io.py"], "python")) == {"t/test_io.py": "a/io.py"}


def test_a_namesake_in_another_language_is_not_meant() -> None:
    assert pair_tests({"test_io.py": "python", "io.go": "go"}) == {}


ORDERS = st.lists(st.sampled_from([f"{p}{s}.py" for p in ("", "test_", "x/") for s in "abcd"]), unique=True)


@given(ORDERS)
def test_tests_stand_right_behind_their_implementation_and_nothing_is_lost(order: list[str]) -> None:
    pairs = pair_tests(dict.fromkeys(order, "python"))
    placed = place_tests(order, pairs)
    assert sorted(placed) == sorted(order)
    for test, implementation in pairs.items():
        between = placed[placed.index(implementation) + 1 : placed.index(test)]
        assert all(pairs.get(path) == implementation for path in between)
    untested = [path for path in order if path not in pairs]
    assert [path for path in placed if path not in pairs] == untested
