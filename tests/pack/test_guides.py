"""Build files lead imports from the repository to its packs, and nobody trains on them."""

from pathlib import Path

from tests.corpus.repositories import write

from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.pipeline import build_corpus
from codegemma.pack.choices import PackChoices
from codegemma.pack.guides import GuideIndex
from codegemma.pack.pipeline import build_packs
from codegemma.records import BuildFile, Pack
from codegemma.shards import read_records

WHOLE = CorpusChoices(heldout_share=0.0)
PACKAGES: dict[str, str | bytes] = {
    "web/package.json": '{"name": "@shop/web", "author": "jo.doe@shop-example.com"}',
    "web/src/app.ts": "import { price } from '@shop/money';\n\nexport const total = price(2) + price(3);\n",
    "libs/cash/package.json": '{"name": "@shop/money", "main": "dist/price.js"}',
    "libs/cash/src/price.ts": "export function price(x: number): number {\n  return 2 * x;\n}\n",
}


def test_build_files_lead_imports_and_are_not_packed(tmp_path: Path) -> None:
    build_corpus([write(tmp_path / "shop", PACKAGES)], tmp_path / "out", WHOLE)
    report = build_packs(tmp_path / "out", tmp_path / "out", PackChoices())
    packed = [file.path for pack in read_records(tmp_path / "out/packs-train.parquet", Pack) for file in pack.files]
    assert packed == ["libs/cash/src/price.ts", "web/src/app.ts"]
    assert report.splits["train"].edges == 1


def test_a_build_file_with_a_secret_is_not_written_and_addresses_in_one_become_pseudonyms(tmp_path: Path) -> None:
    token = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"
    files = PACKAGES | {"libs/cash/package.json": f'{{"name": "@shop/money", "token": "{token}"}}'}
    build_corpus([write(tmp_path / "shop", files)], tmp_path / "out", WHOLE)
    (kept,) = read_records(tmp_path / "out/build-files.parquet", BuildFile)
    assert kept.path == "web/package.json"
    assert "@shop/web" in kept.text
    assert "jo.doe" not in kept.text


def test_only_build_files_of_the_wanted_languages_that_can_be_read_are_kept(tmp_path: Path) -> None:
    files = PACKAGES | {"go.mod": "module shop\n", "Cargo.toml": b"\xff\xfe[package]\n", "a.py": "print(1)\n"}
    choices = CorpusChoices(languages=("python", "rust"), heldout_share=0.0)
    build_corpus([write(tmp_path / "shop", files)], tmp_path / "out", choices)
    assert list(read_records(tmp_path / "out/build-files.parquet", BuildFile)) == []


def test_a_repository_is_led_by_its_own_files_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, PACKAGES | {"web/src/app.ts": f"export const name{name} = 1;\n"})
    build_corpus([tmp_path / "a", tmp_path / "b"], tmp_path / "out", WHOLE)
    index = GuideIndex(tmp_path / "out")
    first, second = index.select(["a"]), index.select(["b"])
    assert first.read_build_files().keys() == {"a"}
    assert [reference.kept_repo for reference in second.read_references()["b"]] == ["a"]
    assert first.digest != second.digest
    assert index.select(["nobody"]).read_references() == {}
