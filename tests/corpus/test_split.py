from pathlib import PurePosixPath
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.corpus.split import Heldout, hold_out_directories, hold_out_newest, keep_sides
from codegemma.errors import InputError

NAMES = st.sampled_from(["a", "b", "c", "core", "test_a"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda parts: "/".join(parts) + ".py")
SIZES = st.dictionaries(PATHS, st.integers(1, 10_000), min_size=1, max_size=40)
SHARES = st.floats(0.01, 0.5)


def hold_out(sizes: dict[str, int], share: float = 0.1, repo: str = "repo", seed: int = 0) -> Heldout:
    return hold_out_directories(sizes, share, repo, seed)


def share_of(held: Heldout, sizes: dict[str, int]) -> float:
    return sum(sizes[path] for path in held.paths) / sum(sizes.values())


@given(SIZES, SHARES, st.integers(0, 3))
def test_held_out_is_a_part_of_the_files_that_leaves_most_for_training(
    sizes: dict[str, int], share: float, seed: int
) -> None:
    held = hold_out(sizes, share, seed=seed)
    assert held.paths <= sizes.keys()
    assert share_of(held, sizes) <= max(1.1 * share, 0.5) + 1e-9


@given(SIZES, SHARES, st.randoms(use_true_random=False))
def test_order_of_the_files_makes_no_difference(sizes: dict[str, int], share: float, random: Random) -> None:
    paths = list(sizes)
    random.shuffle(paths)
    assert hold_out({path: sizes[path] for path in paths}, share) == hold_out(sizes, share)


def test_unequal_subdirectories_give_about_the_share_in_whole_directories() -> None:
    sizes = {f"pkg/d{n}/f{k}.py": 100 * 2 ** (n % 8) for n in range(30) for k in range(5)}
    held = hold_out(sizes)
    assert 0.05 <= share_of(held, sizes) <= 0.11
    folders = {PurePosixPath(path).parent for path in held.paths}
    assert len(folders) >= 2
    assert held.paths == {path for path in sizes if PurePosixPath(path).parent in folders}
    assert held.how == f"{len(folders)} of 30 directories"


def test_huge_directory_is_divided_into_its_own() -> None:
    sizes = {f"huge/sub{n}/f.py": 1000 for n in range(40)} | {"small/f.py": 100}
    assert 0.05 <= share_of(hold_out(sizes), sizes) <= 0.11


def test_folders_nested_deeper_than_the_stack_are_divided() -> None:
    sizes = {f"{'a/' * depth}f{depth}.py": 100 for depth in range(0, 3000, 250)}
    assert 0 < share_of(hold_out(sizes), sizes) <= 0.11


def test_records_of_one_file_are_held_out_singly_up_to_the_share() -> None:
    sizes = {f"problems.jsonl:{number}": 100 + number % 7 for number in range(1, 501)}
    held = hold_out(sizes)
    assert 0.09 < share_of(held, sizes) < 0.11


def test_flat_repository_holds_out_whole_families_and_says_so() -> None:
    sizes = {f"{stem}{end}.py": 100 for stem in "abcdefghijkl" for end in ("", "_utils", "_types")}
    sizes |= {f"test_{stem}.py": 100 for stem in "abcdefghijkl"}
    held = hold_out(sizes)
    assert len(held.paths) == 4
    assert len({path.removeprefix("test_")[0] for path in held.paths}) == 1
    assert "file families" in held.how


def test_huge_flat_directory_beside_a_tiny_one_still_gives_the_share() -> None:
    sizes = {f"pkg/module{n}.py": 100 for n in range(50)} | {"docs/conf.py": 20}
    held = hold_out(sizes)
    assert 0.05 <= share_of(held, sizes) <= 0.11


def test_two_large_directories_are_not_held_out_whole() -> None:
    sizes = {f"{folder}/m{n}.py": 100 for folder in ("one", "two") for n in range(20)}
    assert 0.05 <= share_of(hold_out(sizes), sizes) <= 0.11


def test_few_files_give_the_smallest_and_a_single_file_nothing() -> None:
    assert hold_out({"a.py": 10, "b.py": 30, "c.py": 20}).paths == {"a.py"}
    assert hold_out({"a.py": 10}).paths == frozenset()


def test_seed_and_repository_change_the_choice() -> None:
    sizes = {f"d{n}/f.py": 100 for n in range(100)}
    choices = {hold_out(sizes, seed=seed, repo=repo).paths for seed in (0, 1) for repo in ("r", "s")}
    assert len(choices) == 4


BIRTHS = st.dictionaries(PATHS, st.tuples(st.integers(1, 100), st.integers(0, 10)), min_size=2)


@given(BIRTHS, SHARES)
def test_every_held_out_file_is_younger_than_every_other(files: dict[str, tuple[int, int]], share: float) -> None:
    sizes = {path: size for path, (size, _) in files.items()}
    births_s = {path: born_s for path, (_, born_s) in files.items()}
    try:
        held = hold_out_newest(sizes, births_s, share, "repo")
    except InputError:
        newest = max(births_s.values())
        assert sum(sizes[path] for path in sizes if births_s[path] == newest) > 2 * share * sum(sizes.values())
        return
    others = sizes.keys() - held.paths
    assert 0 < share_of(held, sizes) <= 2 * share + 1e-9
    assert min(births_s[path] for path in held.paths) > max((births_s[path] for path in others), default=-1)


def test_uncommitted_files_are_the_newest() -> None:
    held = hold_out_newest({"a.py": 90, "b.py": 10}, {"a.py": 7}, 0.1, "repo")
    assert held == Heldout(frozenset({"b.py"}), "1 files not committed yet")


@pytest.mark.parametrize("time_s", [10**15, -(10**15)])
def test_commit_of_no_year_that_a_calendar_has_is_a_time_like_others(time_s: int) -> None:
    held = hold_out_newest({"a.py": 90, "b.py": 10}, {"a.py": time_s - 1, "b.py": time_s}, 0.1, "repo")
    assert held == Heldout(frozenset({"b.py"}), f"1 files first added at {time_s} s after 1970 or later")


def test_repository_added_at_once_cannot_be_divided_by_time() -> None:
    with pytest.raises(InputError, match="heldout_by=directory"):
        hold_out_newest({"a.py": 50, "b.py": 50}, {"a.py": 1, "b.py": 1}, 0.1, "repo")


SIDES = st.dictionaries(st.sampled_from([f"{d}/{f}.py" for d in "abcd" for f in "xyz"]), st.booleans(), min_size=1)


@given(
    was_heldout=SIDES,
    sizes=st.dictionaries(st.sampled_from([f"{d}/{f}.py" for d in "abcdef" for f in "xyzw"]), st.integers(1, 99)),
)
def test_files_that_were_seen_stay_on_their_side(was_heldout: dict[str, bool], sizes: dict[str, int]) -> None:
    held = keep_sides(sizes, was_heldout, 0.2, "repo", seed=0)
    assert held.paths <= sizes.keys()
    for path in sizes.keys() & was_heldout.keys():
        assert (path in held.paths) == was_heldout[path]


def test_repository_that_grew_has_new_directories_held_out() -> None:
    sizes = {"old/a.py": 10} | {f"new{n}/m{m}.py": 10 for n in range(20) for m in range(2)}
    held = keep_sides(sizes, {"old/a.py": False}, 0.2, "repo", seed=0)
    assert "old/a.py" not in held.paths
    assert 0.1 <= sum(sizes[path] for path in held.paths) / sum(sizes.values()) <= 0.3
