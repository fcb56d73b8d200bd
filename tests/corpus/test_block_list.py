"""What an operator's list knows is found and never repeated; a list that cannot be read stops the build."""

import hashlib
import random
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.corpus.block_list import NO_LIST, BlockList, find_blocked, normalize_words, read_block_list
from codegemma.corpus.block_list_maker import make_block_list
from codegemma.errors import InputError

PHRASE = "the quick brown fox jumps over the lazy dog and is never seen again"


def make(folder: Path, *lines: str) -> BlockList:
    path = folder / "list.txt"
    path.write_text(make_block_list(lines))
    return read_block_list(str(path))


def test_words_in_a_row_are_found_in_any_spelling(tmp_path: Path) -> None:
    blocked = make(tmp_path, f"words {PHRASE}", "words Zwölf Boxkämpfer")
    for text in (
        PHRASE,
        f"x = 1\n# {PHRASE.upper()}!\n",
        PHRASE.replace(" ", "\n#   "),
        PHRASE.replace(" ", "_"),
        "... quick brown fox jumps over the lazy dog ...",
        "def zwölf_boxkämpfer(): pass",
        "ZWO\u0308LF — BOXKA\u0308MPFER",
    ):
        found = find_blocked(text, blocked)
        assert found is not None
        assert found.reason == "words"
    for text in (
        "",
        "brown quick the fox jumps over the lazy dog and",
        "the quick brown fox jumps",
        "zwölf kleine boxkämpfer",
        PHRASE.replace("lazy", "busy"),
    ):
        assert find_blocked(text, blocked) is None


def test_whole_files_are_found_by_their_bytes(tmp_path: Path) -> None:
    listed = tmp_path / "listed.py"
    listed.write_bytes(b"\xef\xbb\xbfx = 1\r\n")
    blocked = make(tmp_path, f"file {listed}")
    found = find_blocked("x = 1\r\n", blocked)
    assert found is not None
    assert found.describe() == "1 hit of the block list"
    assert find_blocked("x = 1\n", blocked) is None
    (tmp_path / "list.txt").write_text(
        f"codegemma-block-list 1\nsalt {'00' * 16}\nfile {hashlib.sha256(b'x = 2').hexdigest().upper()}\n"
    )
    assert find_blocked("x = 2", read_block_list(str(tmp_path / "list.txt"))) is not None


def test_domains_and_those_below_them_are_found_in_addresses(tmp_path: Path) -> None:
    blocked = make(tmp_path, "domain Bad.Example", "domain bücher.example")
    for address in (
        "https://bad.example/path",
        "see http://user:pw@a.b.BAD.example:8080/?q",
        "'ftp://bad.example'",
        '"https:\\/\\/bad.example\\/path"',
        "<https://bad.example.>",
        "https://xn--bcher-kva.example",
        "https://Bücher.example/",
    ):
        found = find_blocked(f"# {address}\n# {address}\n", blocked)
        assert found is not None
        assert tuple(found) == ("domain", 2)
    for text in (
        "https://notbad.example",
        "https://bad.example.com",
        "bad.example",
        "https://example",
        "://",
        "https://",
    ):
        assert find_blocked(text, blocked) is None


def test_list_holds_nothing_in_clear_and_two_lists_of_one_text_differ(tmp_path: Path) -> None:
    (tmp_path / "f.bin").write_bytes(b"listed bytes")
    lines = [f"words {PHRASE}", "domain bad.example", f"file {tmp_path / 'f.bin'}", "# a comment", ""]
    first, second = make_block_list(lines), make_block_list(lines)
    assert first != second
    for word in (*PHRASE.split()[1:5], "bad.example", "f.bin", "comment"):
        assert word not in first
    assert len(first.splitlines()) == 2 + (14 - 8 + 1) + 1 + 1


def test_description_says_which_list_or_none(tmp_path: Path) -> None:
    blocked = make(tmp_path, f"words {PHRASE}", "domain bad.example")
    assert blocked.describe().startswith("block list: 0 files, 1 domains, 7 word runs, digest ")
    assert read_block_list(None) is NO_LIST
    assert NO_LIST.describe() == "block list: none given"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "first line"),
        (b"words some clear text\n", "first line"),
        (b"codegemma-block-list 1\nfile " + b"0" * 64, "0 lines of salt"),
        (b"codegemma-block-list 1\nsalt " + b"0" * 32, "no entry"),
        (b"codegemma-block-list 1\nsalt " + b"0" * 31, ":2: no entry of a block list; wanted one of: salt SALT"),
        (b"codegemma-block-list 1\nwords 3 clear text here\n", ":2: no entry"),
        (b"codegemma-block-list 1\nwords 65 " + b"0" * 16 + b" " + b"0" * 32, ":2: no entry"),
        (b"codegemma-block-list 1\nfile " + b"+" * 64, ":2: no entry"),
        ("codegemma-block-list 1\nclear täxt".encode(), "not ASCII; is it clear text"),
    ],
)
def test_a_list_that_cannot_be_read_stops_the_build_and_is_not_repeated(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_block_list(str(path))
    assert "clear text here" not in str(caught.value)


@pytest.mark.parametrize("line", ["some clear words", "words", "words --", "domain", "file"])
def test_maker_refuses_a_line_without_repeating_it(line: str) -> None:
    with pytest.raises(InputError, match=r"^line 2: wanted `file PATH`") as caught:
        make_block_list(["domain a.b", line])
    assert "clear" not in str(caught.value)


def test_maker_runs_as_a_command(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "codegemma.corpus.block_list_maker",
        "--words",
        "3",
        "-",
        str(tmp_path / "out.txt"),
    ]
    subprocess.run(command, input=f"words {PHRASE}\n".encode(), check=True)
    assert find_blocked("quick brown fox", read_block_list(str(tmp_path / "out.txt"))) is not None
    for arguments, exit_code in (("/none", 3), ("-", 3)):
        failed = subprocess.run(
            [*command[:5], arguments, str(tmp_path / "o")], input=b"clear words\n", capture_output=True, check=False
        )
        assert failed.returncode == exit_code
        assert b"clear words" not in failed.stderr


def test_planted_phrases_are_found_and_clean_code_is_not(tmp_path: Path) -> None:
    """Recall over a drawn list, in real source; nothing else of that source is hit."""
    source = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyz"
    phrases = [" ".join("".join(source.choices(letters, k=6)) for _ in range(10)) for _ in range(200)]
    blocked = make(tmp_path, *(f"words {phrase}" for phrase in phrases))
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]
    assert not any(find_blocked(text, blocked) for text in texts)
    for phrase in phrases:
        text = source.choice(texts)
        at = text.find("\n", source.randrange(len(text)))
        assert find_blocked(f"{text[:at]}\n# {phrase}\n{text[at:]}", blocked) is not None


@pytest.fixture(scope="module")
def blocked(tmp_path_factory: pytest.TempPathFactory) -> BlockList:
    return make(tmp_path_factory.mktemp("list"), "domain bad.example", "words the quick brown", "words fox")


PARTS = ["https://", "\ud800", ".", "bad.example", "\0", "/", " the quick ", "brown", "é", "\u0130", "\n"]


@given(st.text(), st.lists(st.sampled_from(PARTS), max_size=12))
def test_any_text_can_be_searched(blocked: BlockList, text: str, parts: list[str]) -> None:
    found = find_blocked(text + "".join(parts) + " fox", blocked)
    assert found is not None
    assert found.reason in ("domain", "words")


@given(st.text(st.characters(codec="ascii")))
def test_ascii_is_cut_into_the_words_of_any_text(text: str) -> None:
    assert [*normalize_words(text), "é"] == normalize_words(f"{text} é")
