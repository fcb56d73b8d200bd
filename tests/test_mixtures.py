"""From inputs of every kind to rows in the shares of a recipe: every file is known by its kind all the way."""

import base64
import email
import json
import shutil
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from click.testing import CliRunner
from tests.corpus.repositories import commit, write
from tests.corpus.sentences import ENGLISH, OTHERS
from tests.text.test_tokenizer import small_tokenizer

from codegemma.build import BuildReport, build_data, tell_kinds
from codegemma.cli.build import command
from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.english import English
from codegemma.corpus.forgotten import Removal
from codegemma.corpus.inputs import Input, list_repositories, parse_input
from codegemma.corpus.quality import find_document_defect
from codegemma.corpus.quality_rules import load_quality_rules
from codegemma.corpus.report import read_manifest
from codegemma.errors import InputError
from codegemma.feed.choices import FeedChoices
from codegemma.feed.loader import RowShape, open_loader
from codegemma.feed.mixture import MixtureChoices
from codegemma.forget import forget
from codegemma.model.config import GemmaConfig
from codegemma.pack.report import read_manifest as read_pack_manifest
from codegemma.recipes import Recipe
from codegemma.records import DroppedFile, Pack, SourceFile, SourceKind, Split
from codegemma.shards import read_records

CODE = Path(str(email.__file__)).parent
TOKEN = "ghp_" + "a1B2c3D4e5F6" * 3
BENCHMARK = "Natalia sold clips to forty eight of her friends in April, and then she sold half as many clips in May."


TEXT_RULES = load_quality_rules().of("text")
PAGES = [t for t in topics.values() if len(t) < 6_000 and find_document_defect(t, TEXT_RULES, English.SURE) is None]


def make_lines(*records: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def make_sum(n: int) -> dict[str, str]:
    question = f"A shop has {n} boxes of {n + 3} pencils each and sells {n} pencils. How many pencils are left in it?"
    return {
        "question": question,
        "answer": f"{n} * {n + 3} = <<{n}*{n + 3}={n * (n + 3)}>>{n * (n + 3)}\n#### {n * n + 2 * n}",
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inputs")
    shutil.copytree(CODE, root / "code", ignore=shutil.ignore_patterns("__pycache__"))
    pages = [{"text": page} for page in PAGES[:12]]
    bad = [
        {"text": f"{PAGES[20]}\nThe token is {TOKEN}."},
        {"text": "\n".join(OTHERS["de"])},
        {"text": PAGES[3].replace("the", "The", 2)},
        {"text": f"{PAGES[21]}\n{BENCHMARK}"},
        {"text": PAGES[22] + base64.b64encode(bytes(range(256)) * 8).decode()},
        {"text": f"{PAGES[23]}\nWrite to jane.doe@corp-mail.net today."},
    ]
    made = [
        {"content": f"def double_{n}(values):\n    return [value * {n} for value in values]\n", "language": "python"}
        for n in range(6)
    ]
    tasks = [{"instruction": f"{ENGLISH[18]} Case {n}.", "output": PAGES[n + 30]} for n in range(4)]
    excuse = {"instruction": ENGLISH[18], "output": "I'm sorry, but I can't help with that."}
    broken = {"content": "def broken(:\n  return ((\n" * 9, "language": "python"}
    write(
        root,
        {
            "web.jsonl": make_lines(*pages, *bad),
            "gsm8k.jsonl": make_lines(*map(make_sum, range(2, 30))),
            "made.jsonl": make_lines(*made, *tasks, excuse, broken),
            "gsm8k_test.jsonl": make_lines({"question": BENCHMARK, "answer": "#### 72"}),
        },
    )
    return root


def build(inputs: Path, out: Path, *names: str, **corpus: Any) -> BuildReport:
    choices = CorpusChoices(decontaminate=(str(inputs / "gsm8k_test.jsonl"),), **corpus)
    recipe = Recipe("test", GemmaConfig(512, 32, 1, num_heads=2, num_kv_heads=1, head_dim=16, mlp_dim=64), choices)
    return build_data([parse_input(_place(inputs, name)) for name in names], out, recipe)


def _place(inputs: Path, name: str) -> str:
    kind, sign, path = name.rpartition("=")
    return f"{kind}{sign}{inputs / path}"


ALL = ("code", "web.jsonl", "gsm8k.jsonl", "synthetic=made.jsonl")


@pytest.fixture(scope="module")
def built(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuildReport]:
    out = tmp_path_factory.mktemp("built")
    return out, build(inputs, out, *ALL)


def test_every_pack_is_of_one_kind_and_all_kinds_arrive(built: tuple[Path, BuildReport]) -> None:
    out, report = built
    kinds = {file.blob: file.kind for name in ("train", "heldout") for file in _read_files(out, name)}
    packs = [p for name in ("train", "heldout") for p in read_records(out / f"packs-{name}.parquet", Pack)]
    # Conversations are no files of a corpus.
    every = set(SourceKind) - {SourceKind.CONVERSATION}
    assert {kinds[file.blob] for pack in packs for file in pack.files} == every
    assert all(kinds[file.blob] is pack.kind for pack in packs for file in pack.files)
    told = {row.kind: row for row in tell_kinds(report)}
    assert set(told) == every
    for kind, row in told.items():
        texts = [file.text for file in _read_files(out, "train") if file.kind is kind]
        assert row.files == len(texts)
        assert row.tokens > sum(map(len, texts)) / 5
    assert "mathematics" in (out / "report.html").read_text()


def _read_files(out: Path, split: str) -> list[SourceFile]:
    return list(read_records(out / f"files-{split}.parquet", SourceFile))


def test_what_must_not_be_trained_on_is_dropped_from_documents_with_stage_and_reason(
    built: tuple[Path, BuildReport],
) -> None:
    out, _ = built
    drops = {d.path: (d.stage, d.reason) for d in read_records(out / "dropped.parquet", DroppedFile)}
    drops |= {d.path: (d.stage, d.reason) for d in read_records(out / "dropped-syntax.parquet", DroppedFile)}
    assert {path: drop for path, drop in drops.items() if ".jsonl" in path} == {
        "web.jsonl:13": ("safety", "secret"),
        "web.jsonl:14": ("quality", "not_english"),
        "web.jsonl:4": ("dedup", "near_duplicate"),
        "web.jsonl:16": ("decontaminate", "benchmark"),
        "web.jsonl:17": ("quality", "encoded_data"),
        "made.jsonl:11": ("quality", "boilerplate"),
        "made.jsonl:12.py": ("syntax", "syntax_errors"),
    }
    texts = [file.text for name in ("train", "heldout") for file in _read_files(out, name)]
    assert not any("jane.doe@corp-mail.net" in text or TOKEN in text for text in texts)


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [
        (("code",), [1.0]),
        (("code_and_text",), [0.8, 0.2]),
        (("code=2", "synthetic=1", "mathematics=1"), [0.5, 0.25, 0.25]),
    ],
)
def test_rows_of_a_build_have_the_shares_of_the_recipe(built, shares, wanted) -> None:
    feed = FeedChoices(packing_bins=8, mixture=MixtureChoices(shares))
    loader = open_loader(built[0], small_tokenizer(), feed, RowShape(8, 256), 0)
    counts = [loader.count_tokens(loader.take_known()) for _ in range(60)]
    loader.close()
    totals = [sum(column) for column in zip(*counts, strict=True)]
    assert [total / sum(totals) for total in totals] == pytest.approx(wanted, abs=0.01)


def test_a_repository_gives_its_code_and_its_documents_apart(tmp_path: Path) -> None:
    commit(write(tmp_path / "repo", {"a.py": "x = 1\n", "README.md": "# A\n", "docs/use.txt": "Use it.\n"}))
    repo = tmp_path / "repo"
    listings = list_repositories([repo, Input(repo, SourceKind.TEXT)])
    assert [(listing.repo, listing.kind) for listing in listings] == [("repo", None), ("repo#2", SourceKind.TEXT)]
    hints = {e.path: e.language_hint for e in listings[1].entries if e.refusal is None}
    assert hints == {"README.md": "markdown", "docs/use.txt": "text"}
    (mathematics,) = list_repositories([Input(repo, SourceKind.MATHEMATICS)])
    assert {e.language_hint for e in mathematics.entries if e.refusal is None} == {"markdown", "math"}
    with pytest.raises(InputError, match="given twice"):
        list_repositories([Input(repo, SourceKind.TEXT), Input(repo, SourceKind.TEXT)])
    with pytest.raises(InputError, match="no document in it"):
        list_repositories([Input(tmp_path / "none", SourceKind.TEXT)])


def test_only_the_four_kinds_are_read_off_an_input() -> None:
    assert parse_input("mathematics=/a/b=c") == (Path("/a/b=c"), SourceKind.MATHEMATICS)
    for path in ("prose=a", "text=", "a/text=b", "text"):
        assert parse_input(path) == (Path(path), None)


def test_language_policy_is_a_choice_and_only_judges_anew(inputs: Path, tmp_path: Path) -> None:
    for english, stays in (("likely", False), ("any", True)):
        build(inputs, tmp_path, "web.jsonl", english=English(english))
        drops = {d.path for d in read_records(tmp_path / "dropped.parquet", DroppedFile)}
        assert ("web.jsonl:14" not in drops) == stays


def test_command_says_how_much_there_is_of_each_kind(inputs: Path, tmp_path: Path) -> None:
    places = [_place(inputs, name) for name in ("code", "text=web.jsonl")]
    result = CliRunner().invoke(command, [*places, "--out", str(tmp_path), "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "  text " in result.output
    assert "tokens" in result.output
    again = CliRunner().invoke(command, [*places, "--out", str(tmp_path), "--workers", "1", "--json"])
    assert {row["kind"] for row in json.loads(again.stdout)["kinds"]} == {"code", "text"}


def test_what_is_forgotten_is_counted_of_its_kind_no_more(built: tuple[Path, BuildReport], tmp_path: Path) -> None:
    shutil.copytree(built[0], tmp_path / "data")
    before = {row.kind: row for row in built[1].corpus.kinds}
    assert forget(tmp_path / "data", Removal("web")).is_done
    assert forget(tmp_path / "data", Removal("made", ("made.jsonl:1.py",))).is_done
    corpus, packs = read_manifest(tmp_path / "data"), read_pack_manifest(tmp_path / "data")
    assert corpus is not None
    assert packs is not None
    after = {row.kind: row for row in corpus.kinds}
    assert before.keys() - after.keys() == {SourceKind.TEXT}
    files = {kind: row.files_train + row.files_heldout for kind, row in after.items()}
    synthetic = before[SourceKind.SYNTHETIC]
    assert files[SourceKind.SYNTHETIC] == synthetic.files_train + synthetic.files_heldout - 1
    assert after[SourceKind.CODE] == before[SourceKind.CODE]
    assert SourceKind.TEXT not in packs.splits[Split.TRAIN].chars_by_kind
