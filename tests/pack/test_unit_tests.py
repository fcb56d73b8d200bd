import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.pack import unit_tests
from codegemma.pack.unit_tests import pair_tests, place_tests


@pytest.mark.parametrize(
    ("test", "implementation", "language"),
    [
        ("test_foo.py", "foo.py", "python"),
        ("pkg/foo_test.py", "pkg/foo.py", "python"),
        ("tests/test_foo.py", "src/pkg/foo.py", "python"),
        ("src/test/java/a/FooTest.java", "src/main/java/a/Foo.java", "java"),
        ("foo_test.go", "foo.go", "go"),
        ("src/test/java/a/TestFoo.java", "src/main/java/a/Foo.java", "java"),
        ("src/test/java/a/FooIT.java", "src/main/java/a/Foo.java", "java"),
        ("src/test/java/a/FooTestCase.java", "src/main/java/a/Foo.java", "java"),
        ("src/commonTest/kotlin/a/FooTest.kt", "src/commonMain/kotlin/a/Foo.kt", "kotlin"),
        ("App.Tests/FooTests.cs", "App/Foo.cs", "csharp"),
        ("foo_unittest.cc", "foo.cc", "cpp"),
        ("test/foo-test.cc", "src/foo.cc", "cpp"),
        ("tests/foo.rs", "src/foo.rs", "rust"),
        ("src/foo/tests.rs", "src/foo/mod.rs", "rust"),
        ("test/unit/foo.c", "src/foo.c", "c"),
        ("ui/button.spec.ts", "ui/button.ts", "typescript"),
        ("ui/button.test.tsx", "ui/button.tsx", "tsx"),
        ("ui/__tests__/button.ts", "ui/button.ts", "typescript"),
        ("ui/button/button.test.ts", "ui/button/index.ts", "typescript"),
        ("test/button.js", "lib/button.js", "javascript"),
    ],
)
def test_tests_are_paired_with_what_they_test_in_every_language(test: str, implementation: str, language: str) -> None:
    other = implementation.replace("foo", "bar").replace("Foo", "Bar").replace("button", "menu")
    assert pair_tests({test: language, implementation: language, other: language}) == {test: implementation}


def test_languages_of_one_family_test_each_other() -> None:
    assert pair_tests({"a.test.tsx": "tsx", "a.ts": "typescript"}) == {"a.test.tsx": "a.ts"}
    assert pair_tests({"src/ATest.kt": "kotlin", "src/A.java": "java"}) == {"src/ATest.kt": "src/A.java"}
    assert pair_tests({"a_test.cc": "cpp", "a.h": "c"}) == {"a_test.cc": "a.h"}


def test_a_test_of_one_aspect_belongs_to_the_file_in_the_same_folder() -> None:
    paths = dict.fromkeys(["context_file_test.go", "context.go", "context_file_other.go", "x/context_io_test.go"], "go")
    assert pair_tests(paths) == {"context_file_test.go": "context.go"}
    paths = dict.fromkeys(["main/a/JObject.java", "test/a/JObjectAsyncTest.java", "test/b/JObjectIoTest.java"], "java")
    assert pair_tests(paths) == {"test/a/JObjectAsyncTest.java": "main/a/JObject.java"}


def test_a_file_named_just_as_another_is_its_test_only_within_the_project() -> None:
    paths = dict.fromkeys(["a/tests/net.rs", "a/tests/utils.rs", "b/src/net.rs", "a/src/utils.rs"], "rust")
    assert pair_tests(paths) == {}
    assert pair_tests({**paths, "a/src/io/net.rs": "rust"}) == {"a/tests/net.rs": "a/src/io/net.rs"}


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


FOLDERS = st.lists(st.sampled_from("abcd"), max_size=4).map(lambda names: "".join(f"{name}/" for name in names))


@given(st.lists(FOLDERS, min_size=1, unique=True), FOLDERS)
def test_no_other_namesake_is_closer(folders: list[str], where: str) -> None:
    def rank(path: str) -> tuple[int, int, str]:
        return -len({*path.split("/")[:-1]} & {*where.split("/")[:-1]}), path.count("/"), path

    paths = [f"{folder}io.py" for folder in folders]
    test = f"{where}test_io.py"
    assert pair_tests(dict.fromkeys([*paths, test], "python")) == {test: min(paths, key=rank)}


def test_a_test_in_a_package_of_its_own_is_not_compared_with_those_of_all_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared, closeness = [], unit_tests._closeness

    def count(test: str, implementation: str) -> tuple[int, int, str]:
        compared.append(implementation)
        return closeness(test, implementation)

    monkeypatch.setattr(unit_tests, "_closeness", count)
    paths = [f"src/p{n}/{name}.py" for n in range(200) for name in ("main", "tests/test_main")]
    assert len(pair_tests(dict.fromkeys(paths, "python"))) == 200
    assert len(compared) == 200
