"""What is remembered of every file: where it stands, whether it is kept, and why not."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.corpus.census import Census, Drop
from codegemma.corpus.intake import Sighting
from codegemma.errors import InputError
from codegemma.records import DroppedFile, SourceKind
from codegemma.shards import write_records

# Names that sort differently by UTF-16 units and by code points, or by case.
NAMES = st.sampled_from(["a", "B", "b", "é", "\uffff", "𝒳", "a/b"])
SHARDS = st.lists(st.lists(st.tuples(NAMES, st.sampled_from(["MIT", None, "0BSD"])), max_size=4), max_size=4)


def see(number: int, repo: str, license: str | None = None, digest: str | None = None) -> Sighting:
    return Sighting(
        repo, f"{number}.py", f"blob {number}", digest or str(number), license, "python", number, (), SourceKind.CODE
    )


def take_census(folder: Path, shards: list[list[Sighting]], unread: tuple[DroppedFile, ...] = ()) -> Census:
    sightings, dropped = [], []
    for number, seen in enumerate(shards):
        sightings.append(folder / f"{number}.sightings.parquet")
        dropped.append(folder / f"{number}.dropped.parquet")
        write_records(sightings[-1], seen, Sighting)
        write_records(dropped[-1], unread if number == 0 else (), DroppedFile)
    return Census(sightings, dropped)


@given(shards=SHARDS, data=st.data())
def test_texts_are_found_where_they_stand_and_by_what_they_have(tmp_path_factory, shards, data) -> None:
    numbers = iter(range(100))
    seen = [[see(next(numbers), repo, license) for repo, license in shard] for shard in shards]
    census = take_census(tmp_path_factory.mktemp("c"), seen)
    flat = [sighting for shard in seen for sighting in shard]
    gone = data.draw(st.sets(st.sampled_from(range(len(flat))))) if flat else set()
    census.drop("quality", (Drop(number, "short", "") for number in sorted(gone)))
    kept = [sighting for number, sighting in enumerate(flat) if number not in gone]
    rows = census.rows_by_shard(census.is_kept)
    assert [seen[shard][row] for shard, each in rows.items() for row in each] == kept
    assert [census.number_at(shard, row) for shard, each in rows.items() for row in each] == sorted(
        set(range(len(flat))) - gone
    )
    for license, found in census.list_values("license"):
        assert found.tolist() == [
            number for number, each in enumerate(flat) if each.license == license and number not in gone
        ]
    keys = {(each.repo, each.path): number for number, each in enumerate(flat)}
    assert census.find_numbers(keys.keys()) == keys


@given(shards=SHARDS, data=st.data())
def test_drops_come_sorted_and_each_text_once_by_its_first_reason(tmp_path_factory, shards, data) -> None:
    numbers = iter(range(100))
    seen = [[see(next(numbers), repo) for repo, _ in shard] for shard in shards]
    unread = tuple(DroppedFile(repo, f"{name}.bin", "read", "binary", "", 1) for repo in "ba" for name in "éB")
    census = take_census(tmp_path_factory.mktemp("c"), seen, unread if seen else ())
    flat = [sighting for shard in seen for sighting in shard]
    first: dict[int, str] = {}
    for stage in ("license", "quality", "dedup"):
        drops = data.draw(st.lists(st.sampled_from(range(len(flat))), max_size=3)) if flat else []
        census.drop(stage, (Drop(number, f"{stage} {place}", "why") for place, number in enumerate(drops)))
        for place, number in enumerate(drops):
            first.setdefault(number, f"{stage} {place}")
    wanted = [
        DroppedFile(flat[number].repo, flat[number].path, reason.split()[0], reason, "why", number)
        for number, reason in first.items()
    ]
    wanted += unread if seen else ()
    assert list(census.list_drops()) == sorted(wanted, key=lambda drop: (drop.repo, drop.path, drop.stage))
    assert int(census.is_kept.sum()) == len(flat) - len(first)


def test_repeated_values_count_among_kept_texts_alone(tmp_path: Path) -> None:
    census = take_census(tmp_path, [[see(0, "r", digest="x"), see(1, "r", digest="y")], [see(2, "s", digest="x")]])
    assert census.list_repeated("digest").tolist() == [0, 2]
    census.drop("quality", [Drop(2, "short", "")])
    assert census.list_repeated("digest").tolist() == []


def test_dropped_text_is_not_held_out_any_more(tmp_path: Path) -> None:
    census = take_census(tmp_path, [[see(0, "r"), see(1, "r")]])
    census.is_heldout[:] = True
    census.drop("split", [Drop(1, "near_duplicate_of_train", "")])
    assert (census.is_heldout.tolist(), census.is_train.tolist()) == ([True, False], [False, False])


def test_a_file_is_remembered_in_a_few_hundred_bytes(tmp_path: Path) -> None:
    seen = [
        Sighting(
            "some-repository",
            f"src/package/folder/file_{n}.py",
            f"{n:040x}",
            f"{n:032x}",
            "MIT",
            "python",
            n,
            (),
            SourceKind.CODE,
        )
        for n in range(2_000)
    ]
    census = take_census(tmp_path, [seen])
    assert (census._seen.nbytes + census.is_kept.nbytes + census.is_heldout.nbytes) / len(seen) < 300


def test_shard_that_is_not_whole_is_named(tmp_path: Path) -> None:
    take_census(tmp_path, [[see(0, "r")]])
    file = tmp_path / "0.sightings.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"0\.sightings\.parquet: truncated"):
        Census([file], [])
    assert np.count_nonzero(Census([], []).is_kept) == 0
