"""What must not be trained on is planted by the hundred, in every language and kind of input, and reaches no pack.

Run with `-s` to see the table: of each kind how many cases reached a pack, and how many its own stage stopped.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.corpus.benchmark_rows import KINDS, make_rows
from tests.corpus.near_copies import rename_identifier
from tests.corpus.repositories import make_form, write
from tests.corpus.secret_shapes import SHAPES, draw_secret

from codegemma.build import build_data
from codegemma.recipe import override
from codegemma.recipes import load_recipe
from codegemma.records import DroppedFile, Pack, Split
from codegemma.shards import read_records

FORMS = ("tree", "bare.git", "repo.tar.gz", "repo.zip", "set.parquet")
# A function in each language: names `a` to `e`, a number `n`. Those of `WRAPPED` stand in a class.
_COUNT_DOWN = "while ({c}-- > 0)\n        {d} += {b};\n    return {d};\n}}\n"
_COUNT_UP = (
    "{d} = {b} + {n}{end}\n    for {e} {loop} {c} {{\n        {d} += {e}{end}\n    }}\n    return {d}{end}\n}}\n"
)
FUNCTIONS = {
    "py": "def {a}({b}, {c}):\n    {d} = {b} + {n}\n    for {e} in range({c}):\n        {d} += {e}\n    return {d}\n",
    "c": "int {a}(int {b}, int {c}) {{\n    int {d} = {b} + {n};\n    " + _COUNT_DOWN,
    "cpp": "auto {a}(long {b}, long {c}) {{\n    auto {d} = {b} + {n};\n    " + _COUNT_DOWN,
    "cs": "static int {a}(int {b}, int {c}) {{\n    var {d} = {b} + {n};\n    " + _COUNT_DOWN,
    "go": "func {a}({b} int, {c} int) int {{\n    var " + _COUNT_UP.replace("{loop}", ":= range").replace("{end}", ""),
    "java": "static int {a}(int {b}, int {c}) {{\n    int {d} = {b} + {n};\n    " + _COUNT_DOWN,
    "js": "function {a}({b}, {c}) {{\n    let {d} = {b} + {n};\n    " + _COUNT_DOWN,
    "kt": "fun {a}({b}: Int, {c}: Int): Int {{\n    var {d} = {b} + {n}\n    for ({e} in 0..{c})\n        {d} += {e}\n"
    "    return {d}\n}}\n",
    "rs": "fn {a}({b}: i64, {c}: i64) -> i64 {{\n    let mut "
    + _COUNT_UP.replace("{loop} {c}", "in 0..{c}").replace("{end}", ";"),
    "ts": "function {a}({b}: number, {c}: number): number {{\n    let {d} = {b} + {n};\n    " + _COUNT_DOWN,
}
WRAPPED = ("cs", "java")
SUFFIXES = tuple(FUNCTIONS)
_VOWELS, _CONSONANTS = "aeiou", "bdfgklmnprstvz"
# Stated in the head of a file, and accepted by nobody who asks for permissive licences.
NOTICES = (
    "SPDX-License-Identifier: GPL-3.0-or-later",
    "SPDX-License-Identifier: AGPL-3.0-only",
    "SPDX-License-Identifier: LicenseRef-proprietary",
    "SPDX-License-Identifier: MIT AND GPL-2.0-only",
    "SPDX-License-Identifier: CC-BY-NC-4.0",
)  # fmt: skip
HOSTS = ("uni-bonn.de", "mail.corp.co.uk", "startup.io", "gov.br.com", "kernel.org")
# The share of the planted cases that may reach a pack.
MAX_LEAKED = {"secret": 0.0, "email": 0.0, "licence": 0.0, "near-duplicate": 0.05, "benchmark": 0.0}
# The share that the stage of its own must stop: no other stage's luck counts.
MIN_STOPPED = {"secret": 0.98, "email": 1.0, "licence": 1.0, "near-duplicate": 0.95, "benchmark": 1.0}
STAGES = {"secret": "safety", "licence": "license", "near-duplicate": "dedup", "benchmark": "decontaminate"}


@dataclass(frozen=True)
class Planted:
    """A file in which something stands that no pack may hold; `value` is the text itself, where the file may stay."""

    kind: str
    suffix: str
    path: str
    text: str
    value: str = ""


def make_word(random: Random) -> str:
    return "".join(random.choice(_CONSONANTS) + random.choice(_VOWELS) for _ in range(4))


def make_host(suffix: str, seed: str) -> str:
    """Make up a file of a language that shares no word with another's."""
    random = Random(f"{suffix} {seed}")
    parts = [
        FUNCTIONS[suffix].format(n=random.randrange(10**4), **{name: make_word(random) for name in "abcde"})
        for _ in range(8)
    ]
    if suffix in WRAPPED:
        body = "\n".join(parts).replace("\n", "\n    ").rstrip()
        return f"class {make_word(random).title()} {{\n    {body}\n}}\n"
    return (f"package {make_word(random)}\n\n" if suffix == "go" else "") + "\n".join(parts)


def comment(suffix: str, text: str) -> str:
    sign = "#" if suffix == "py" else "//"
    return "".join(f"{sign} {line}\n" for line in text.splitlines())


def make_planted(bench: Path) -> Iterator[Planted]:
    """Plant everything; the languages take turns."""
    random = Random(7)
    for number, (rule, templates) in enumerate(SHAPES.items()):
        for turn, template in enumerate(templates):
            suffix = SUFFIXES[(number + turn) % len(SUFFIXES)]
            secret = draw_secret(template, random)
            text = make_host(suffix, f"s{number}{turn}") + comment(suffix, secret)
            yield Planted("secret", suffix, f"secrets/{rule}/{turn}.{suffix}", text)
    for number in range(60):
        suffix, name = SUFFIXES[number % len(SUFFIXES)], f"{make_word(random)}.{make_word(random)}"
        address = f"{name}{number}@{HOSTS[number % len(HOSTS)]}"
        text = make_host(suffix, f"m{number}") + comment(suffix, f"ask {address} about it")
        yield Planted("email", suffix, f"mails/m{number}.{suffix}", text, address)
    for number in range(50):
        suffix = SUFFIXES[number % len(SUFFIXES)]
        text = comment(suffix, NOTICES[number % len(NOTICES)]) + make_host(suffix, f"l{number}")
        yield Planted("licence", suffix, f"licences/m{number}.{suffix}", text)
    for number in range(60):
        suffix = SUFFIXES[number % len(SUFFIXES)]
        text = edit(make_host(suffix, f"n{number}"), suffix, number)
        yield Planted("near-duplicate", suffix, f"copies/m{number}.{suffix}", text)
    for kind in KINDS:
        rows = make_rows(kind, 6)
        (bench / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for number, row in enumerate(rows):
            suffix = SUFFIXES[number % len(SUFFIXES)]
            texts = [value for value in row.values() if isinstance(value, str) and len(value) > 60]
            text = make_host(suffix, f"b{kind}{number}") + comment(suffix, "\n".join(texts))
            yield Planted("benchmark", suffix, f"benchmarks/{kind}/m{number}.{suffix}", text)


def edit(text: str, suffix: str, number: int) -> str:
    """Change a file as copiers do: another name, another head, or a function less."""
    if number % 3 == 0:
        return rename_identifier(text, number)
    if number % 3 == 1:
        return comment(suffix, f"Copyright {1990 + number} Somebody Else\nAll rights reserved.") + text
    lines = text.splitlines(keepends=True)
    return text + comment(suffix, f"note {number}") if suffix in WRAPPED else "".join(lines[:-7])


def make_input(folder: Path, form: str, files: dict[str, str | bytes]) -> Path:
    folder.mkdir()
    if form != "set.parquet":
        return make_form(folder, form, files)
    rows = [{"repo": "owner/planted", "path": path, "content": text} for path, text in files.items()]
    pq.write_table(pa.Table.from_pylist(rows), folder / form)
    return folder / form


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Counter[str]]]:
    """Build once from each form; count by kind and form, and within by language: planted, leaked, stopped."""
    root = tmp_path_factory.mktemp("planted")
    (root / "bench").mkdir()
    planted = list(make_planted(root / "bench"))
    clean: dict[str, str | bytes] = {
        f"clean{n % 5}/m{n}.{SUFFIXES[n % 10]}": make_host(SUFFIXES[n % 10], f"clean{n}") for n in range(50)
    }
    origins = write(
        root / "origins", {f"o/m{n}.{SUFFIXES[n % 10]}": make_host(SUFFIXES[n % 10], f"n{n}") for n in range(60)}
    )
    recipe = override(load_recipe("tiny"), ["corpus.licenses=permissive", f"corpus.decontaminate={root / 'bench'}"])
    found = {}
    for form in FORMS:
        files = clean | {case.path: case.text for case in planted}
        source = make_input(root / form.replace(".", "-"), form, files)
        out = root / f"out-{form}"
        build_data([origins, source], out, recipe)
        for kind, counts in count_cases(planted, out, kept_at_least=45):
            found[kind, form] = counts
    return found


def count_cases(planted: list[Planted], out: Path, kept_at_least: int) -> Iterator[tuple[str, dict[str, Counter[str]]]]:
    packed = {
        (pack.repo, file.path): file
        for split in Split
        for pack in read_records(out / f"packs-{split}.parquet", Pack)
        for file in pack.files
    }
    drops = {(d.repo, d.path): d for d in read_records(out / "dropped.parquet", DroppedFile)}
    [repo] = {repo for repo, path in drops if path.startswith("secrets/")}
    # What is clean stays, or nothing would be proved.
    assert sum(path.startswith("clean") for _, path in packed) >= kept_at_least
    everything = "\n".join(file.text for file in packed.values())
    for kind in MAX_LEAKED:
        counts = {suffix: Counter[str]() for suffix in SUFFIXES}
        for case in (case for case in planted if case.kind == kind):
            key = (repo, case.path)
            drop = drops.get(key)
            if kind == "email":
                is_leaked = case.value in everything
                is_stopped = not is_leaked and any(note.startswith("email:") for note in packed[key].redactions)
            elif kind == "near-duplicate":
                # Of two that are alike, one may stay.
                other = ("origins", case.path.replace("copies/", "o/"))
                is_leaked = key in packed and other in packed
                is_stopped = any(d is not None and d.stage == "dedup" for d in (drop, drops.get(other)))
            else:
                is_leaked, is_stopped = key in packed, drop is not None and drop.stage == STAGES[kind]
            counts[case.suffix] += Counter(planted=1, leaked=int(is_leaked), stopped=int(is_stopped))
        yield kind, counts


def test_nothing_planted_reaches_a_pack(figures: dict[tuple[str, str], dict[str, Counter[str]]]) -> None:
    print(f"\n{'kind':15} {'input':12} {'planted':>8} {'in a pack':>10} {'recall':>8}  {'by its own stage'}")
    wrong = []
    for (kind, form), counts in figures.items():
        total = sum(counts.values(), Counter[str]())
        leaked, stopped = total["leaked"] / total["planted"], total["stopped"] / total["planted"]
        print(f"{kind:15} {form:12} {total['planted']:8} {total['leaked']:10} {1 - leaked:8.1%}  {stopped:.1%}")
        if leaked > MAX_LEAKED[kind] or stopped < MIN_STOPPED[kind]:
            wrong.append((kind, form, leaked, stopped))
    assert not wrong


def test_no_language_is_left_out(figures: dict[tuple[str, str], dict[str, Counter[str]]]) -> None:
    shares: dict[str, Callable[[Counter[str]], float]] = {
        "planted": lambda total: total["planted"],
        "in a pack": lambda total: total["leaked"],
        "stopped, %": lambda total: round(100 * total["stopped"] / max(total["planted"], 1), 1),
    }
    totals = {suffix: sum((by[suffix] for by in figures.values()), Counter[str]()) for suffix in SUFFIXES}
    print("\n" + " ".join([f"{'language':10}", *(f"{suffix:>6}" for suffix in SUFFIXES)]))
    for name, share in shares.items():
        print(" ".join([f"{name:10}", *(f"{share(totals[suffix]):6}" for suffix in SUFFIXES)]))
    for suffix, total in totals.items():
        assert total["planted"] > 100, suffix
        assert total["leaked"] <= 0.01 * total["planted"], suffix
        assert total["stopped"] >= 0.95 * total["planted"], suffix
