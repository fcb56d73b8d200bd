"""What stands in a benchmark is found wherever it is planted; everyday code is left alone."""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.corpus.benchmark_rows import KINDS, make_rows
from tests.corpus.near_copies import read_library

from codegemma.corpus.benchmarks import BenchmarkText, Part, read_benchmarks
from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.decontaminate import (
    MAX_OWNERS,
    AllowList,
    Contamination,
    ContaminationIndex,
    Rule,
    describe_contaminations,
    load_index,
    read_allow_list,
)
from codegemma.corpus.tokens import encode_text, hash_tokens
from codegemma.errors import InputError

PROBLEM = "Return the largest number of grains that every basket of the harvest can hold together."
SOLUTION = "def hold(baskets):\n    return max(sum(basket.grains for basket in row) for row in baskets)\n"
ITEMS = [BenchmarkText("Bench", "7", Part.PROBLEM, PROBLEM), BenchmarkText("Bench", "7", Part.SOLUTION, SOLUTION)]
INDEX = ContaminationIndex(ITEMS)


def find_published(name: str) -> Path:
    folder = os.environ.get("CODEGEMMA_TEST_DATA")
    path = Path(folder) / "eval" / name if folder else None
    if path is None or not path.exists():
        pytest.skip(f"needs {name} in $CODEGEMMA_TEST_DATA/eval")
    return path


def respace(text: str) -> str:
    """Write the same with tabs, double spaces and line ends of another system."""
    text = re.sub(r"(?m)^ +", lambda match: "\t" * (len(match[0]) // 2), text)
    return re.sub(r"(?<=\S) (?=\S)", "  ", text).replace("\n", "\r\n")


def plant(host: str, text: str) -> str:
    lines = host.splitlines(keepends=True)
    half = len(lines) // 2
    return "".join(lines[:half]) + respace(text) + "\n" + "".join(lines[half:])


@pytest.mark.parametrize("name", ["HumanEval.jsonl.gz", "mbpp.jsonl.gz"])
def test_every_published_problem_with_its_solution_is_found(name: str) -> None:
    texts = read_benchmarks([find_published(name)]).texts
    index = ContaminationIndex(texts)
    hosts = list(read_library(30).values())
    assert not [found for host in hosts for found in index.find(host)]
    items: dict[str, list[str]] = {}
    for text in texts:
        if text.part in (Part.PROBLEM, Part.SOLUTION):
            items.setdefault(text.item, []).append(text.text)
    missed = [
        item
        for number, (item, parts) in enumerate(items.items())
        if item not in {found.item for found in index.find(plant(hosts[number % len(hosts)], "\n".join(parts)))}
    ]
    assert not missed, f"{len(missed)} of {len(items)}: {missed[:5]}"
    assert not index.unguarded


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_of_several_rows_of_each_kind_is_found_under_its_item(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"{kind}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in make_rows(kind, 8)))
    benchmarks = read_benchmarks([path])
    index = ContaminationIndex(benchmarks.texts)
    hosts = list(read_library(30).values())
    assert not [found for host in hosts for found in index.find(host)]
    assert not index.unguarded
    assert len({text.item for text in benchmarks.texts}) == 8
    missed = [
        (text.item, text.part)
        for number, text in enumerate(benchmarks.texts)
        if text.item not in {found.item for found in index.find(plant(hosts[number % 30], text.text))}
    ]
    assert not missed


INFILLING_SETS = ("SingleLineInfilling", "MultiLineInfilling", "RandomSpanInfilling", "RandomSpanInfillingLight")


@pytest.mark.parametrize("name", INFILLING_SETS)
def test_every_program_of_an_infilling_set_is_found_under_an_item_of_its_own(name: str) -> None:
    index = ContaminationIndex(read_benchmarks([find_published(f"HumanEval-{name}.jsonl.gz")]).texts)
    programs: dict[str, str] = {}
    for text in read_benchmarks([find_published("HumanEval.jsonl.gz")]).texts:
        if text.part in (Part.PROBLEM, Part.SOLUTION):
            programs[text.item] = programs.get(text.item, "") + text.text
    hosts = list(read_library(30).values())
    missed = [
        item
        for number, (item, program) in enumerate(programs.items())
        if not any(f"/{item}/" in found.item for found in index.find(plant(hosts[number % 30], program)))
    ]
    assert (len(programs), missed) == (164, [])


def test_solution_of_an_infilling_set_is_found_although_it_is_in_no_row_whole() -> None:
    index = ContaminationIndex(read_benchmarks([find_published("HumanEval-RandomSpanInfillingLight.jsonl.gz")]).texts)
    texts = read_benchmarks([find_published("HumanEval.jsonl.gz")]).texts
    solutions = [text.text for text in texts if text.part is Part.SOLUTION]
    # The others alone have no ten telling words.
    assert sum(bool(index.find(solution)) for solution in solutions) >= 100


def test_each_rule_finds_alone_what_the_other_cannot() -> None:
    half = " ".join(PROBLEM.split()[:11])
    assert INDEX.find(f"import os\n\n# {half}, and then some more\n") == [
        Contamination("Bench", "7", Rule.TEN_WORDS, 3)
    ]
    short = BenchmarkText("Bench", "8", Part.SOLUTION, "area = height * width / 2.0625")
    assert ContaminationIndex([short]).find("x = 1\r\narea=height*width\r\n/2.0625") == [
        Contamination("Bench", "8", Rule.WHOLE_TEXT, 2)
    ]


@given(st.text(st.sampled_from("ab \n\t\r\v\u2028(é\ud800"), max_size=200), st.booleans())
def test_line_is_that_of_the_first_match_whatever_stands_before(before: str, is_again: bool) -> None:
    text = f"{before}\n{SOLUTION}{SOLUTION if is_again else ''}"
    wanted = before.count("\n") + 2
    assert INDEX.find(text) == [
        Contamination("Bench", "7", Rule.TEN_WORDS, wanted),
        Contamination("Bench", "7", Rule.WHOLE_TEXT, wanted),
    ]
    assert INDEX.find(text, hash_tokens(encode_text(text))) == INDEX.find(text)


@pytest.mark.parametrize(
    "trivial",
    ["return x + y", "for i in range(n):\n    for j in range(n):\n", "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]"],
)
def test_everyday_code_is_no_evidence(trivial: str) -> None:
    index = ContaminationIndex([BenchmarkText("Bench", "1", Part.SOLUTION, trivial + "\nreturn marker")])
    assert not index.find(f"def other():\n{trivial}\n")
    alone = ContaminationIndex([BenchmarkText("Bench", "1", Part.SOLUTION, "return x + y")])
    assert alone.unguarded == ["Bench/1"]
    assert not alone.find("return x + y")


def test_imports_are_no_evidence_and_what_follows_them_is() -> None:
    imports = "import numpy as np\nimport pandas as pd\nfrom sklearn.linear_model import LogisticRegression\n"
    index = ContaminationIndex([BenchmarkText("DS", "1", Part.PROBLEM, imports + PROBLEM)])
    assert not index.find(imports + "print(1)")
    assert [found.rule for found in index.find(imports + PROBLEM)] == [Rule.TEN_WORDS, Rule.WHOLE_TEXT]


def test_boilerplate_of_a_benchmark_is_no_evidence() -> None:
    phrase = "You are given a table of numbers and should write a function that returns"
    many = [BenchmarkText("B", str(n), Part.PROBLEM, f"{phrase} item{n}") for n in range(MAX_OWNERS + 1)]
    assert not ContaminationIndex(many).find(f"# {phrase} something else")
    assert ContaminationIndex(many[:-1]).find(f"# {phrase} something else")
    # As many translations of one problem are one problem.
    same = [BenchmarkText("B", "q1", Part.PROBLEM, f"{sign} {phrase}") for sign in "#" * (MAX_OWNERS + 1)]
    assert ContaminationIndex(same).find(f"# {phrase} something else")


def test_worker_loads_what_the_recipe_names(tmp_path: Path) -> None:
    (tmp_path / "Bench.jsonl").write_text(json.dumps({"problem": PROBLEM, "solution": SOLUTION}))
    (tmp_path / "allow.toml").write_text(f'texts = ["{PROBLEM}"]')
    index = load_index((str(tmp_path / "Bench.jsonl"),), str(tmp_path / "allow.toml"), ("one", "two"))
    assert describe_contaminations(index.find(f"# {PROBLEM}\n{SOLUTION}")) == (
        "Bench/1 by ten_words in line 2; Bench/1 by whole_text in line 2"
    )


def test_what_the_operator_allows_is_not_reported(tmp_path: Path) -> None:
    path = tmp_path / "allow.toml"
    path.write_text(f'texts = ["""{SOLUTION}"""]')
    assert not ContaminationIndex(ITEMS, read_allow_list(str(path))).find(SOLUTION)
    assert ContaminationIndex(ITEMS, read_allow_list(str(path))).find(PROBLEM)
    path.write_text('items = ["Bench/7", "NotGiven/1"]')
    allowed = read_allow_list(str(path))
    assert not ContaminationIndex(ITEMS, allowed).find(SOLUTION + PROBLEM)
    assert allowed.describe().startswith("decontamination allow list: 2 items, 0 texts, digest ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"texts = [", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b'item = ["x"]', "unknown keys item; wanted items and texts"),
        (b'texts = "x"', "no list of strings"),
        (b"texts = [1]", "no list of strings"),
    ],
)
def test_allow_list_that_cannot_be_meant_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "allow.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_allow_list(str(path))


def test_allow_list_of_unknown_item_or_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Bench/70, which is no item"):
        ContaminationIndex(ITEMS, AllowList(frozenset({"Bench/70"})))
    with pytest.raises(InputError, match="cannot be read"):
        read_allow_list(str(tmp_path / "none.toml"))
    assert read_allow_list(None) == AllowList()


@pytest.mark.parametrize(
    "text",
    ["", "\0" * 1000, "\ud800" * 50, "a" * 3_000_000, " " * 3_000_000, SOLUTION * 20_000, "def hold(baskets)" * 9**5],
)
def test_hostile_text_is_read_to_its_end(text: str) -> None:
    assert bool(INDEX.find(text)) == (SOLUTION in text)


def test_no_benchmark_finds_nothing() -> None:
    assert ContaminationIndex([]).find(SOLUTION) == []


def test_allow_list_without_a_benchmark_is_refused() -> None:
    with pytest.raises(ValueError, match="name the benchmarks that it is for"):
        CorpusChoices(decontamination_allow_list="allow.toml")
