import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from codegemma.errors import InputError, OutputError
from codegemma.pack.choices import PackChoices, PackOrder
from codegemma.pack.naturalness import Boundary
from codegemma.pack.pipeline import DROPPED_FILE, build_packs
from codegemma.pack.report import MANIFEST
from codegemma.records import DroppedFile, Pack, SourceFile
from codegemma.runner import LocalRunner
from codegemma.shards import read_records, write_records
from codegemma.text.syntax import analyze_syntax

PARQUET = ("packs-train.parquet", "packs-heldout.parquet", DROPPED_FILE)
TRAIN = {
    "lib/__init__.py": "from lib.app import run\n",
    "lib/app.py": "import lib.db\nfrom lib.text import clean, join\n\n\ndef run(x):\n    return clean(x)  # 漢字 🐍\n",
    "lib/db.py": "import lib.app\n\n\nclass Db:\n    name = 'é'\n",
    "lib/text.py": "def clean(x):\n    return x\n\n\ndef join(*parts):\n    return ''.join(parts)\n",
    "lib/broken.py": "def (:\n  ))) = = class ]\n",
    "tests/test_text.py": "from lib.text import clean\n\n\ndef test_clean():\n    assert clean(1) == 1\n",
}
HELDOUT = {"other/text.py": "from lib.text import clean\n\nprint(clean('b'))\n"}


def write_corpus(folder: Path, train: dict[str, str] = TRAIN, heldout: dict[str, str] = HELDOUT) -> Path:
    for name, texts in (("train", train), ("heldout", heldout)):
        files = [
            SourceFile("repo", path, "python", text, blob=f"{i:040x}", license="MIT", commit="c" * 40)
            for i, (path, text) in enumerate(sorted(texts.items()))
        ]
        write_records(folder / f"files-{name}.parquet", files, SourceFile)
    return folder


def read_packs(out: Path, split: str = "train") -> list[Pack]:
    return list(read_records(out / f"packs-{split}.parquet", Pack))


def test_every_file_is_packed_once_in_reading_order_with_its_cuts(tmp_path: Path) -> None:
    report = build_packs(write_corpus(tmp_path / "corpus"), tmp_path / "out", PackChoices())
    (pack,) = read_packs(tmp_path / "out")
    paths = [file.path for file in pack.files]
    assert sorted(paths) == sorted(TRAIN.keys() - {"lib/broken.py"})
    assert paths.index("tests/test_text.py") == paths.index("lib/text.py") + 1 < paths.index("lib/app.py")
    for file in pack.files:
        assert file.text == TRAIN[file.path]
        assert np.array_equal(file.natural_cuts, analyze_syntax(file.text, "python").natural_cuts)
        assert np.array_equal(file.block_starts, analyze_syntax(file.text, "python").block_starts)
    assert (pack.repo, pack.commit, pack.split, pack.files[0].license) == ("repo", "c" * 40, "train", "MIT")
    assert report.splits["train"].files_packed == 5
    assert report.splits["train"].edges == 5
    assert report.splits["train"].broken_edges == 1
    assert report.splits["train"].colocated_edges["grouped"] == 5


def test_the_lines_of_pseudonyms_go_along_into_the_pack(tmp_path: Path) -> None:
    notes = ("email:1", "ip_address:2")
    file = SourceFile("repo", "a.py", "python", "a = 'x@example.org'\nb = 2\n", blob="0" * 40, redactions=notes)
    for name, files in (("train", [file]), ("heldout", [])):
        write_records(tmp_path / f"files-{name}.parquet", files, SourceFile)
    build_packs(tmp_path, tmp_path / "out", PackChoices())
    assert [f.redactions for pack in read_packs(tmp_path / "out") for f in pack.files] == [notes]


def test_heldout_files_never_share_a_pack_with_training_files(tmp_path: Path) -> None:
    build_packs(write_corpus(tmp_path / "corpus"), tmp_path / "out", PackChoices())
    (pack,) = read_packs(tmp_path / "out", "heldout")
    assert [file.path for file in pack.files] == list(HELDOUT)
    assert pack.split == "heldout"


def test_file_with_syntax_errors_is_dropped_with_its_share(tmp_path: Path) -> None:
    report = build_packs(write_corpus(tmp_path / "corpus"), tmp_path / "out", PackChoices())
    (dropped,) = read_records(tmp_path / "out" / DROPPED_FILE, DroppedFile)
    assert (dropped.path, dropped.stage, dropped.reason) == ("lib/broken.py", "syntax", "syntax_errors")
    assert dropped.size_bytes == len(TRAIN["lib/broken.py"].encode())
    counts = report.splits["train"]
    assert counts.files_in == counts.files_packed + counts.files_dropped == len(TRAIN)


@pytest.mark.parametrize("order", PackOrder)
def test_bytes_are_the_same_for_any_number_of_workers(tmp_path: Path, order: PackOrder) -> None:
    choices = PackChoices(order=order, budget_tokens=30)
    corpus = write_corpus(tmp_path / "corpus")
    for workers in (1, 2):
        build_packs(corpus, tmp_path / str(workers), choices, LocalRunner(workers))
    one, two = (
        {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*.parquet") if p.is_file()}
        for out in (tmp_path / "1", tmp_path / "2")
    )
    assert one == two
    assert {name.partition("/")[0] for name in one} == {*PARQUET, "steps"}
    assert len(read_packs(tmp_path / "1")) > 1


def test_pack_ids_tell_packs_apart_and_stay(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    build_packs(corpus, tmp_path / "a", PackChoices(budget_tokens=1))
    build_packs(corpus, tmp_path / "b", PackChoices(budget_tokens=1, order=PackOrder.CODEGEMMA))
    ids = {pack.files[0].path: pack.pack_id for pack in read_packs(tmp_path / "a")}
    assert len(set(ids.values())) == len(ids) == 5
    assert {pack.files[0].path: pack.pack_id for pack in read_packs(tmp_path / "b")} == ids


def test_a_whole_build_is_found_again_and_a_changed_one_is_made_anew(tmp_path: Path) -> None:
    corpus, out = write_corpus(tmp_path / "corpus"), tmp_path / "out"
    first = build_packs(corpus, out, PackChoices())
    again = build_packs(corpus, out, PackChoices())
    assert again == dataclasses.replace(first, is_reused=True)
    assert not build_packs(corpus, out, PackChoices(budget_tokens=10)).is_reused
    write_corpus(corpus, TRAIN | {"new.py": "x = 1\n"})
    assert not build_packs(corpus, out, PackChoices(budget_tokens=10)).is_reused
    (out / "packs-train.parquet/part-00000.parquet").write_bytes(b"")
    assert not build_packs(corpus, out, PackChoices(budget_tokens=10)).is_reused
    (out / MANIFEST).write_text("{")
    assert not build_packs(corpus, out, PackChoices(budget_tokens=10)).is_reused


def test_failed_build_leaves_no_manifest(tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_packs(write_corpus(tmp_path / "corpus"), out, PackChoices())
    broken = write_corpus(tmp_path / "broken", {"a.py": TRAIN["lib/broken.py"]})
    with pytest.raises(InputError, match=r"nothing left to train on: 1 of 1 files .* pack\.max_error_share"):
        build_packs(broken, out, PackChoices())
    assert not (out / MANIFEST).exists()


def test_build_that_ends_halfway_leaves_no_held_out_packs_of_an_earlier_one(tmp_path: Path) -> None:
    corpus, out = write_corpus(tmp_path / "corpus"), tmp_path / "out"
    build_packs(corpus, out, PackChoices())
    heldout = corpus / "files-heldout.parquet"
    content = bytearray(heldout.read_bytes())
    texts = pq.read_metadata(heldout).row_group(0).column(3)
    content[texts.data_page_offset + texts.total_compressed_size - 1] ^= 0xFF
    heldout.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        build_packs(corpus, out, PackChoices())
    assert [path.name for path in out.iterdir()] == ["steps"]


def test_manifest_is_plain_json_with_the_counts(tmp_path: Path) -> None:
    build_packs(write_corpus(tmp_path / "corpus"), tmp_path / "out", PackChoices())
    plain = json.loads((tmp_path / "out" / MANIFEST).read_text())
    train = plain["splits"]["train"]
    assert train["files_by_language"] == {"python": 5}
    assert set(train["colocated_edges"]) == {"grouped", "codegemma", "alphabetical", "random"}
    assert 0.9 < sum(train["boundary_places"].values()) / train["chars_by_language"]["python"] <= 1.0
    assert set(train["boundary_cuts"]) == {f"python.{boundary}" for boundary in Boundary}  # one comment ends a line
    assert {"parse_cpu_s", "imports_cpu_s", "group_cpu_s", "all_wall_s"} <= set(plain["seconds"])


def test_missing_corpus_unknown_grammar_and_unwritable_folder_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"files-train\.parquet: cannot be read .*build the corpus first"):
        build_packs(tmp_path / "nowhere", tmp_path / "out", PackChoices())
    corpus = write_corpus(tmp_path / "corpus")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another --out"):
        build_packs(corpus, tmp_path / "file", PackChoices())
    source = SourceFile("repo", "a.cob", "cobol", "x", blob="0" * 40)
    write_records(corpus / "files-train.parquet", [source])
    with pytest.raises(InputError, match=r"a\.cob: no tree-sitter grammar for 'cobol'"):
        build_packs(corpus, tmp_path / "out", PackChoices())


def test_progress_counts_every_file(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    build_packs(
        write_corpus(tmp_path / "corpus"),
        tmp_path / "out",
        PackChoices(),
        on_progress=lambda stage, done, total: seen.append((stage, done, total)),
    )
    files = len(TRAIN) + len(HELDOUT)
    assert ("parse", files, files) in seen


@pytest.mark.parametrize(
    "wrong", [{"budget_tokens": 0}, {"chars_per_token": 0.0}, {"max_error_share": 1.5}, {"import_top_lines": -1}]
)
def test_choices_that_pack_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        dataclasses.replace(PackChoices(), **wrong)  # type: ignore[arg-type]
