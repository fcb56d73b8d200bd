"""Who opts out is dropped unread and written down, and a list that cannot be read stops the build."""

from pathlib import Path

import pytest
from tests.corpus.repositories import write

from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.listing import list_repository
from codegemma.corpus.opt_out import read_opt_out, refuse_opted_out
from codegemma.corpus.pipeline import build_corpus
from codegemma.errors import InputError
from codegemma.records import DroppedFile, SourceFile
from codegemma.shards import read_records


def _make_repository(root: Path) -> Path:
    names = ("a.py", "src/b.py", "src/generated/c.py", "private/d.py", "private/deep/e.py")
    return write(root, {name: f"def f{i}(x):\n    return x + {i}\n" for i, name in enumerate(names)})


def _build(repo: Path, out: Path, opt_out: Path | None) -> tuple[set[str], dict[str, str], tuple[str, ...]]:
    choices = CorpusChoices(heldout_share=0.0, opt_out=None if opt_out is None else str(opt_out))
    report = build_corpus([repo], out, choices)
    dropped = read_records(out / "dropped.parquet", DroppedFile)
    kept = {file.path for file in read_records(out / "files-train.parquet", SourceFile)}
    return kept, {d.path: d.detail for d in dropped if d.reason == "opted_out"}, report.lists


def test_lines_and_markers_drop_files_and_the_report_says_which_list(tmp_path: Path) -> None:
    repo = write(_make_repository(tmp_path / "repo"), {"private/.noai": ""})
    opt_out = tmp_path / "opt-out.txt"
    opt_out.write_text("# ours\n\nother\nre*:src/generated/**\n")
    kept, dropped, lists = _build(repo, tmp_path / "out", opt_out)
    assert kept == {"a.py", "src/b.py"}
    assert dropped["src/generated/c.py"] == "line 4 of the opt-out list"
    assert dropped["private/deep/e.py"] == ".noai in private"
    assert lists[0].startswith("opt-out list: 2 lines, digest ")


def test_without_a_list_the_report_says_so(tmp_path: Path) -> None:
    kept, dropped, lists = _build(_make_repository(tmp_path / "repo"), tmp_path / "out", None)
    assert len(kept) == 5
    assert not dropped
    assert lists[0] == "opt-out list: none given"


def test_a_changed_list_is_another_build(tmp_path: Path) -> None:
    repo, opt_out = _make_repository(tmp_path / "repo"), tmp_path / "opt-out.txt"
    opt_out.write_text("other\n")
    assert len(_build(repo, tmp_path / "out", opt_out)[0]) == 5
    opt_out.write_text("repo:a.py\n")
    assert len(_build(repo, tmp_path / "out", opt_out)[0]) == 4


def test_a_repository_that_opts_out_as_a_whole_leaves_nothing(tmp_path: Path) -> None:
    opt_out = tmp_path / "opt-out.txt"
    opt_out.write_text("repo\n")
    with pytest.raises(InputError, match="5 read/opted_out"):
        _build(_make_repository(tmp_path / "repo"), tmp_path / "out", opt_out)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b":src\n", "names no repository"), (b"\xff\n", "not UTF-8"), (None, "cannot be read"), (b"a\nrepo:!\n", ":2: ")],
)
def test_a_list_that_cannot_be_read_stops_the_build(tmp_path: Path, content: bytes | None, message: str) -> None:
    opt_out = tmp_path / "opt-out.txt"
    if content is not None:
        opt_out.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_opt_out(str(opt_out))


def test_marker_at_the_top_opts_out_everything_and_the_deepest_is_named(tmp_path: Path) -> None:
    repo = write(_make_repository(tmp_path / "repo"), {".noai": "", "private/.noai": ""})
    listing = refuse_opted_out(list_repository(repo), read_opt_out(None))
    details = {entry.path: (entry.refusal or ("", "none"))[1] for entry in listing.entries}
    assert details["a.py"] == details["src/b.py"] == ".noai in ."
    assert details["private/deep/e.py"] == ".noai in private"
