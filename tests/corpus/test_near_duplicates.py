"""Near-duplicates are found, others are left alone, and neither shards nor their order are seen in the answer."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.corpus.near_copies import plant, read_library

from codegemma.corpus import near_duplicates
from codegemma.corpus.choices import CorpusChoices, NearDuplicatePolicy
from codegemma.corpus.dedup import hash_shingles
from codegemma.corpus.near_duplicates import (
    NearDuplicate,
    find_near_duplicate_repositories,
    find_near_duplicates,
)
from codegemma.corpus.sketch_shards import (
    FileKey,
    SketchShard,
    make_shard,
    read_repository_sketches,
    read_shard,
    write_repository_sketches,
    write_shard,
)
from codegemma.corpus.sketches import (
    Sketch,
    estimate_jaccard,
    hash_bands,
    merge_sketches,
    shorten_sketches,
    sketch_shingles,
)
from codegemma.errors import InputError, OutputError

EVERYWHERE, ACROSS = NearDuplicatePolicy.EVERYWHERE, NearDuplicatePolicy.ACROSS_REPOS
MIN = CorpusChoices().min_near_duplicate_jaccard


def sketch(files: dict[FileKey, str]) -> SketchShard:
    return make_shard({key: sketch_shingles(hash_shingles(text)) for key, text in files.items()})


def write_words(*numbers: int) -> str:
    return " ".join(f"word{n}" for n in numbers)


# Neighbours in this row are near-duplicates of each other; those further apart are not.
CHAIN = [write_words(*range(25 * n, 200 + 25 * n)) for n in range(4)]


def test_planted_copies_are_found_and_unrelated_code_is_left_alone() -> None:
    originals = read_library(120)
    copies = {("planted", f"{kind}/{path}"): (path, kind, text) for path, kind, text in plant(originals)}
    files = {("original", path): text for path, text in originals.items()}
    shard = sketch({**files, **{key: text for key, (_, _, text) in copies.items()}})
    found = {near.key: near.kept for near in find_near_duplicates([shard], ACROSS, MIN)}

    exact = {key: measure_jaccard(originals[path], text) for key, (path, _, text) in copies.items()}
    wanted = [key for key, jaccard in exact.items() if jaccard >= 0.75]
    assert len(wanted) >= 200
    assert Counter(copies[key][1] for key in wanted).keys() == {"renamed", "extended", "commented"}
    recall = sum(key in found for key in wanted) / len(wanted)
    assert recall >= 0.97, f"recall {recall:.3f} of {len(wanted)} planted copies above a Jaccard index of 0.75"
    # Each is found as what it is: none for the copy of another file.
    assert all(kept == ("original", copies[key][0]) for key, kept in found.items())
    assert not list(find_near_duplicates([sketch(files)], EVERYWHERE, MIN))


def measure_jaccard(one: str, other: str) -> float:
    ones, others = hash_shingles(one), hash_shingles(other)
    shared = len(np.intersect1d(ones, others, assume_unique=True))
    return shared / (len(ones) + len(others) - shared)


@given(data=st.data(), policy=st.sampled_from([EVERYWHERE, ACROSS]))
@settings(max_examples=50)
def test_neither_shards_nor_order_are_seen_in_the_answer(data: st.DataObject, policy: NearDuplicatePolicy) -> None:
    files = {
        (repo, f"{place}{n}.py"): CHAIN[n] + f" end{repo}"
        for repo in "ab"
        for place in ("", "vendor/")
        for n in range(4)
    }
    order = data.draw(st.permutations(list(files)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=4)))
    parts = [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    shards = [sketch({key: files[key] for key in part}) for part in parts]
    assert list(find_near_duplicates(shards, policy, MIN)) == list(find_near_duplicates([sketch(files)], policy, MIN))


@given(
    texts=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 60)), min_size=1, max_size=12),
    policy=st.sampled_from([EVERYWHERE, ACROSS]),
)
@settings(max_examples=50)
def test_answer_is_that_of_comparing_every_file_with_every_file(
    texts: list[tuple[int, int]], policy: NearDuplicatePolicy
) -> None:
    files = {
        (f"r{n % 3}", f"{n:02}.py"): write_words(*range(1000 * start, 1000 * start + 100), *range(shift, 60))
        for n, (start, shift) in enumerate(texts)
    }
    sketches = {key: sketch_shingles(hash_shingles(text)) for key, text in files.items()}
    kept: list[FileKey] = []
    wanted = {}
    for key in sorted(files):
        alike = {other: compare(sketches[key], sketches[other]) for other in kept if is_comparable(key, other, policy)}
        alike = {other: jaccard for other, jaccard in alike.items() if jaccard >= MIN}
        if alike:
            wanted[key] = max(alike, key=lambda other: (alike[other], [-ord(c) for c in "".join(other)]))
        else:
            kept.append(key)
    found = find_near_duplicates([make_shard(sketches)], policy, MIN)
    assert {near.key: near.kept for near in found} == wanted


def is_comparable(key: FileKey, other: FileKey, policy: NearDuplicatePolicy) -> bool:
    return policy is EVERYWHERE or key[0] != other[0]


def compare(one: Sketch, other: Sketch) -> float:
    """Estimate the likeness of two files if a band brings them together."""
    has_band = (hash_bands(one[None]) == hash_bands(other[None])).any()
    return float(estimate_jaccard(shorten_sketches(one[None]), shorten_sketches(other[None]))[0]) if has_band else 0.0


def test_ranges_of_band_hashes_are_not_seen_in_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    shard = sketch({("r", f"{n}.py"): text for n, text in enumerate(CHAIN)})
    whole = list(find_near_duplicates([shard], EVERYWHERE, MIN))
    monkeypatch.setattr(near_duplicates, "RANGE_ENTRIES", 5)
    monkeypatch.setattr(near_duplicates, "_VERIFY_PAIRS", 1)
    assert list(find_near_duplicates([shard], EVERYWHERE, MIN)) == whole != []


def test_what_goes_is_like_what_stays_even_at_the_end_of_a_chain() -> None:
    shard = sketch({("r", f"{n}.py"): text for n, text in enumerate(CHAIN)})
    found = {near.key[1]: near for near in find_near_duplicates([shard], EVERYWHERE, MIN)}
    assert {path: near.kept[1] for path, near in found.items()} == {"1.py": "0.py", "3.py": "2.py"}
    assert all(near.jaccard >= 0.7 for near in found.values())


def test_policy_decides_what_goes() -> None:
    one, other = CHAIN[:2]
    shard = sketch({("a", "x.py"): one, ("a", "y.py"): other, ("b", "z.py"): one})
    assert not list(find_near_duplicates([shard], NearDuplicatePolicy.NONE, MIN))
    assert [near.key for near in find_near_duplicates([shard], ACROSS, MIN)] == [("b", "z.py")]
    assert [near.key for near in find_near_duplicates([shard], EVERYWHERE, MIN)] == [("a", "y.py"), ("b", "z.py")]


@pytest.mark.parametrize("folder", ["third_party", "src/_vendor", "node_modules/x"])
def test_original_stays_and_its_vendored_copy_goes(folder: str) -> None:
    shard = sketch({("a", f"{folder}/six.py"): CHAIN[0], ("six", "src/vendor.py"): CHAIN[1]})
    [near] = find_near_duplicates([shard], ACROSS, MIN)
    assert near[:2] == (("a", f"{folder}/six.py"), ("six", "src/vendor.py"))


def test_thousand_copies_leave_one() -> None:
    shard = sketch({("r", f"{n:04}.py"): write_words(*range(300)) + f" end{n}" for n in range(1000)})
    found = list(find_near_duplicates([shard], EVERYWHERE, MIN))
    assert len(found) == 999
    assert {near.kept for near in found} == {("r", "0000.py")}


def test_shards_on_disk_are_those_in_memory(tmp_path: Path) -> None:
    shards = [sketch({("r", f"{n}.py"): text}) for n, text in enumerate(CHAIN)] + [sketch({})]
    for n, shard in enumerate(shards):
        write_shard(tmp_path / f"{n:05}", shard)
    read = [read_shard(path) for path in sorted(tmp_path.iterdir())]
    assert list(find_near_duplicates(read, EVERYWHERE, MIN)) == list(find_near_duplicates(shards, EVERYWHERE, MIN))


@pytest.mark.parametrize("name", ["keys.parquet", "signatures.npy", "band_hashes.npy", "band_rows.npy"])
@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_damaged_shard_is_named(tmp_path: Path, name: str, damage: str) -> None:
    write_shard(tmp_path / "00000", sketch({("r", f"{n}.py"): text for n, text in enumerate(CHAIN)}))
    write_shard(tmp_path / "other", sketch({("r", "a.py"): CHAIN[0]}))
    file = tmp_path / "00000" / name
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-40])
    else:
        file.write_bytes((tmp_path / "other" / name).read_bytes())
    shutil.rmtree(tmp_path / "other")
    with pytest.raises(InputError, match=r"00000.*build it again"):
        read_shard(tmp_path / "00000")


def test_file_in_the_way_of_a_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "00000").write_text("")
    with pytest.raises(OutputError, match="00000: cannot be written"):
        write_shard(tmp_path / "00000", sketch({}))


def test_shard_that_is_written_again_is_the_later_one(tmp_path: Path) -> None:
    write_shard(tmp_path / "00000", sketch({("r", f"{n}.py"): text for n, text in enumerate(CHAIN)}))
    write_shard(tmp_path / "00000", sketch({("r", "0.py"): CHAIN[0]}))
    assert not list(find_near_duplicates([read_shard(tmp_path / "00000")], EVERYWHERE, MIN))


def test_fork_is_found_from_the_parts_that_shards_know(tmp_path: Path) -> None:
    texts = list(read_library(40).values())
    repos = {"a": texts[:15], "fork-of-a": [*texts[1:15], "print('mine')"], "other": texts[15:30]}
    for n in range(3):
        parts = {
            repo: merge_sketches(sketch_shingles(hash_shingles(text)) for text in files[n::3])
            for repo, files in repos.items()
        }
        write_repository_sketches(tmp_path / f"{n:05}.parquet", parts)
    files = sorted(tmp_path.iterdir())
    found = list(find_near_duplicate_repositories(read_repository_sketches(files), MIN))
    assert [near[:2] for near in found] == [(("fork-of-a", ""), ("a", ""))]
    files[1].write_bytes(b"PAR1")
    with pytest.raises(InputError, match="00001"):
        read_repository_sketches(files)


def test_no_files_have_no_near_duplicates() -> None:
    assert not list(find_near_duplicates([], EVERYWHERE, MIN))
    assert not list(find_near_duplicates([sketch({})], EVERYWHERE, MIN))
    assert not list(find_near_duplicate_repositories({}, MIN))
    assert NearDuplicate(("r", "a"), ("r", "b"), 0.8).jaccard == 0.8


def test_border_that_bands_do_not_find_is_refused() -> None:
    with pytest.raises(ValueError, match=r"min_near_duplicate_jaccard=0.5: wanted 0.6 to 1"):
        CorpusChoices(min_near_duplicate_jaccard=0.5)
