"""BabelCode's published forms are read to the same questions."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from codegemma.errors import InputError
from codegemma.evals.babelcode.languages import read_target
from codegemma.evals.babelcode.published_format import read_published_questions
from codegemma.evals.babelcode.translate import pose

TESTS = [
    {"idx": 0, "inputs": {"d": {"10": [1]}, "n": 2}, "outputs": ["a", "bc"]},
    {"idx": 1, "inputs": {"d": {}, "n": 3}, "outputs": None},
]
CONVERTED = {
    "qid": "7",
    "title": "MBPP/7",
    "text": "Take keys.",
    "entry_fn_name": "take_keys",
    "schema": {
        "params": [{"name": "d", "type": "map<integer;list<integer>>"}, {"name": "n", "type": "integer"}],
        "return": {"type": "tuple<string|string>"},
    },
    "test_list": TESTS,
    "solutions": {"Python": "def take_keys(d, n): ..."},
}
HUB = [
    {
        "qid": "7", "title": "MBPP/7", "language": language, "text": "Take keys.", "entry_fn_name": name,
        "arguments": ["d", "n"], "test_list": json.dumps(TESTS), "signature_with_docstring": head,
        "solution_python": "def take_keys(d, n): ...",
    }
    for language, name, head in (("Go", "takeKeys", "// Take keys.\nfunc takeKeys() {"), ("Haskell", "takeKeys", "x"))
]  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize(("rows", "name"), [([CONVERTED], "a.jsonl"), (HUB, "a.jsonl.gz")])
def test_published_forms_are_read(tmp_path: Path, rows: list[dict[str, Any]], name: str) -> None:
    (question,) = read_published_questions(write(tmp_path / name, rows))
    assert [str(p.type) for p in question.parameters] == ["map<integer;list<integer>>", "integer"]
    assert str(question.returns) == "list<string>"
    assert [(c.arguments, c.expected) for c in question.calls] == [(({10: [1]}, 2), ["a", "bc"])]
    assert (question.task_id, question.left_out) == ("MBPP/7", 1)
    assert "takeKeys(map[int][]int{10: []int{1}}, 2)" in pose(question, read_target("go")).write_files("")["asked.go"]


def test_published_prompt_is_the_prompt(tmp_path: Path) -> None:
    (question,) = read_published_questions(write(tmp_path / "a.jsonl", HUB))
    assert pose(question, read_target("go")).prompt == "// Take keys.\nfunc takeKeys() {\n"
    assert "fn take_keys(" in pose(question, read_target("rust")).prompt


@pytest.mark.parametrize(
    "text", ["{", '{"qid": "1"}', "[]", '{"qid": 1, "arguments": [], "test_list": [], "entry_fn_name": "f"}']
)
def test_damaged_file_is_said_to_be(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(text + "\n")
    with pytest.raises(InputError, match="wanted JSON lines"):
        read_published_questions(tmp_path / "a.jsonl")


@pytest.mark.parametrize("rows", [[CONVERTED, CONVERTED], [*HUB, HUB[0]]])
def test_question_that_is_there_twice_is_refused(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(InputError, match="is there twice"):
        read_published_questions(write(tmp_path / "a.jsonl", rows))
