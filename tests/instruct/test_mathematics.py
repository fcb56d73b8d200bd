"""Train splits become conversations that the scorers can read, and no test split does."""

import gzip
import importlib.util
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from codegemma.align.chats import read_chats
from codegemma.cli.main import cli
from codegemma.errors import InputError
from codegemma.instruct.answers import end_as_math
from codegemma.instruct.examples import Example, open_guard
from codegemma.instruct.mathematics import find_train_files, read_mathematics, tell_split

GSM8K = {
    "question": "Ann has 24 pens and buys half as many. How many?",
    "answer": "She buys 24/2 = <<24/2=12>>12.\nSo 36.\n#### 36",
}
MATH = {
    "problem": "What is $1/2+1$?",
    "solution": r"It is $\boxed{\frac{3}{2}}$.",
    "level": "Level 1",
    "type": "Prealgebra",
}
MATHQA = {
    "Problem": "what is 3 % of 500 ?", "Rationale": '"3 / 100 * 500 = 15 . so the answer is c"', "correct": "c",
    "options": "a ) 3 , b ) 5 , c ) 15 , d ) 25 , e ) none of these", "category": "gain",
}  # fmt: skip


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(list(rows) if len(rows) > 1 else rows[0]))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(files: Sequence[Path], against: Sequence[Path] = ()) -> list[Example | str]:
    guard = open_guard(against)
    return list(read_mathematics(find_train_files(files, [], guard is not None), guard))


def answer_of(example: Example | str) -> str:
    assert isinstance(example, Example)
    return example.turns[1].text


def test_steps_stay_and_the_marks_of_the_calculator_go(tmp_path: Path) -> None:
    (found,) = read([write_rows(tmp_path / "set" / "train.jsonl", [GSM8K])])
    assert answer_of(found) == "She buys 24/2 = 12.\nSo 36.\n#### 36"
    assert isinstance(found, Example)
    assert found.turns[0].text == GSM8K["question"]
    assert found.origin == {"kind": "GSM8K", "file": "train.jsonl", "item": "1", "license": "MIT"}


def test_math_is_read_from_a_file_a_problem_and_from_the_hubs_parquet(tmp_path: Path) -> None:
    write_rows(tmp_path / "MATH/train/prealgebra/1.json", [MATH])
    hub = write_rows(tmp_path / "hub/algebra/train-0.parquet", [MATH])
    first, second = read([tmp_path / "MATH", hub])
    assert answer_of(first) == answer_of(second) == end_as_math(MATH["solution"], r"\frac{3}{2}")


def test_mathqa_gives_the_value_of_its_option_and_drops_what_does_not_come_to_it(tmp_path: Path) -> None:
    rows = [
        MATHQA,
        MATHQA | {"correct": "e"},
        MATHQA | {"correct": "d"},
        MATHQA | {"correct": "x"},
        MATHQA | {"options": "a ) 1 , b ) 2 , c ) 15 : 1", "Rationale": "15 pens to 1 is 15 : 1"},
    ]
    found = read([write_rows(tmp_path / "set/train.json", rows)])
    assert answer_of(found[0]) == "3 / 100 * 500 = 15 . so\n#### 15"
    assert found[1:4] == [
        "an answer that only its options explain",
        "steps that do not come to the answer",
        "no option is the correct one",
    ]
    assert answer_of(found[4]) == end_as_math("15 pens to 1 is 15 : 1", "15 : 1")


@pytest.mark.parametrize(
    "row", [GSM8K | {"answer": "36"}, GSM8K | {"answer": "#### 36"}, MATH | {"solution": "It is 3."}]
)
def test_a_row_without_steps_or_answer_is_dropped(tmp_path: Path, row: dict[str, str]) -> None:
    assert isinstance(read([write_rows(tmp_path / "set/train.jsonl", [row])])[0], str)


@pytest.mark.parametrize(
    "name", ["test.jsonl", "gsm8k_test_200.jsonl", "validation-00000.parquet", "test/algebra/1.json", "train_test.json"]
)
def test_a_test_split_given_by_name_is_refused(tmp_path: Path, name: str) -> None:
    file = write_rows(tmp_path / "set" / name, [GSM8K])
    with pytest.raises(InputError, match=r"a (test|validation) split"):
        read([file.parents[1] if "algebra" in name else file])


def test_a_test_split_in_a_folder_is_left_out_and_noted(tmp_path: Path) -> None:
    write_rows(tmp_path / "gsm8k/train.jsonl", [GSM8K])
    write_rows(tmp_path / "gsm8k/test.jsonl", [GSM8K])
    write_rows(tmp_path / "gsm8k/infos.json", [{"rows": 1}])
    notes: list[str] = []
    assert find_train_files([tmp_path / "gsm8k"], notes, has_guard=False) == [tmp_path / "gsm8k/train.jsonl"]
    assert notes == [
        "gsm8k/infos.json: left out, nothing in its name says that it is for training",
        "gsm8k/test.jsonl: left out, a test split is for measuring",
    ]


def test_rows_of_another_split_by_their_field_are_dropped_and_a_file_of_them_refused(tmp_path: Path) -> None:
    rows = [GSM8K | {"split": "train"}, GSM8K | {"split": "test"}]
    found = read([write_rows(tmp_path / "set/train.jsonl", rows)])
    assert found[0] == "of another split, by its own field"
    assert len(found) == 2
    with pytest.raises(InputError, match="other split"):
        read([write_rows(tmp_path / "set/train.jsonl", rows[1:])])


def test_what_does_not_say_that_it_is_a_train_split_is_compared_or_refused(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "set/gsm8k.jsonl", [GSM8K])
    with pytest.raises(InputError, match="nothing in its name says"):
        read([file])
    other = write_rows(
        tmp_path / "other/test.jsonl", [GSM8K | {"question": "Another question, of other words, how many?"}]
    )
    assert isinstance(read([file], [other])[0], Example)
    same = write_rows(tmp_path / "same/test.jsonl", [GSM8K])
    with pytest.raises(InputError, match="1 of its 1 problems stand in the test data"):
        read([file], [same])


def test_a_test_split_under_another_name_is_known_by_its_problems(tmp_path: Path) -> None:
    folder = os.environ.get("CODEGEMMA_TEST_DATA")
    if folder is None:
        pytest.skip("no CODEGEMMA_TEST_DATA: the published test data is not here")
    published = Path(folder) / "eval/gsm8k_test_200.jsonl.gz"
    rows = list(map(json.loads, gzip.decompress(published.read_bytes()).splitlines()))
    renamed = write_rows(tmp_path / "set/train.jsonl", rows)
    with pytest.raises(InputError, match="200 of its 200 problems stand in the test data"):
        read([renamed], [published])
    assert len(read([write_rows(tmp_path / "own/train.jsonl", rows)])) == 200, "every answer of GSM8K is read"


@pytest.mark.parametrize(
    ("rows", "said"), [([{"text": "x"}], "of no known data set; came text"), ([3], "no object but int")]
)
def test_a_file_of_no_known_set_is_refused_with_what_came(tmp_path: Path, rows: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read([write_rows(tmp_path / "set/train.jsonl", rows)])


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_bytes(b'{"question": "\xff')
    with pytest.raises(InputError, match="truncated or damaged"):
        read([file])


def test_the_nearest_name_tells_the_split() -> None:
    assert tell_split(Path("test/train.jsonl")) == "train"
    assert tell_split(Path("train/test.jsonl")) == "test"
    assert tell_split(Path("contest/latest.jsonl")) is None


def test_the_harness_reads_our_answers() -> None:
    found = importlib.util.find_spec("lm_eval")
    if found is None or found.origin is None:
        pytest.skip("lm-evaluation-harness is not installed (extra language)")
    pytest.importorskip("math_verify", reason="what the harness needs for MATH is not installed (extra language)")
    tasks = Path(found.origin).parent / "tasks"
    pattern = re.search(r'regex_pattern: "(#### .*?)"', (tasks / "gsm8k/gsm8k.yaml").read_text())
    assert pattern is not None
    assert re.findall(pattern[1].replace("\\\\", "\\"), "9 + 9\n#### 1,800") == ["1,800"]
    # The file alone: its package loads all that the harness has.
    spec = importlib.util.spec_from_file_location("minerva", tasks / "minerva_math/utils.py")
    assert spec is not None and spec.loader is not None
    minerva = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(minerva)
    for answer in (r"\frac{3}{2}", "x = 2, y = -1", r"4 + \sqrt{17}, 4 - \sqrt{17}"):
        assert minerva.get_unnormalized_answer(end_as_math("So.", answer)).strip("$ ") == answer


def test_the_command_writes_what_align_reads_and_counts_what_it_drops(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "set/train.jsonl", [GSM8K, GSM8K, GSM8K | {"answer": "36"}, MATH])
    guarded = write_rows(
        tmp_path / "guard/test.jsonl",
        [MATH | {"problem": "Which whole number stands between sixty and eighty in this long list?"}],
    )
    out = tmp_path / "made" / "math.jsonl"
    ran = CliRunner().invoke(
        cli, ["instruct", "math", str(file), "--against", str(guarded), "--out", str(out)], catch_exceptions=False
    )
    assert ran.exit_code == 0
    assert "1 conversations, 3 dropped" in ran.stdout
    assert "in the benchmark test" in ran.stdout
    assert "asked before" in ran.stdout
    chats = list(read_chats(out))
    assert len(chats) == 1
    assert not any(isinstance(chat, str) for chat in chats)
    assert not list(out.parent.glob(".*"))


def test_generated_algebra_is_written_as_often_as_asked_and_the_same_again(tmp_path: Path) -> None:
    lines = []
    for name in ("a", "b"):
        arguments = [
            "instruct",
            "algebra",
            "--count",
            "90",
            "--levels",
            "2,4",
            "--seed",
            "3",
            "--json",
            "--out",
            str(tmp_path / name),
        ]
        ran = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert sum(json.loads(ran.stdout.splitlines()[-1])["kept"].values()) == 90
        lines.append((tmp_path / name).read_text())
    assert lines[0] == lines[1]
    assert not any(isinstance(chat, str) for chat in read_chats(tmp_path / "a"))


def test_nothing_to_write_is_an_error_and_no_file(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "set/train.jsonl", [GSM8K | {"answer": "36"}])
    ran = CliRunner().invoke(cli, ["instruct", "math", str(file), "--out", str(tmp_path / "out.jsonl")])
    assert isinstance(ran.exception, InputError)
    assert "no answer behind ####" in str(ran.exception)
    assert not (tmp_path / "out.jsonl").exists()
