"""How many benchmark items are found wherever they are planted, and how many files of everyday code are accused.

    python -m benchmarks.decontamination --benchmarks FOLDER [--clean FOLDER ...]

Each item's problem, solution and tests, alone and together, are planted in the middle of a file of the standard library
with tabs, double spaces and other line ends; an item counts as found if it is named. The clean files are all that is in
the given folders, or else the standard library: every match there is printed, and the reader judges.
"""

import argparse
import sys
import sysconfig
import time
from collections import defaultdict
from pathlib import Path

from tests.corpus.near_copies import read_library
from tests.corpus.test_decontaminate import plant

from codegemma.corpus.benchmarks import BenchmarkText, Part, read_benchmarks
from codegemma.corpus.decontaminate import ContaminationIndex, describe_contaminations

KINDS = ((Part.PROBLEM, Part.SOLUTION), (Part.PROBLEM,), (Part.SOLUTION,), (Part.PROGRAM,), (Part.TESTS,))
CLEAN_SUFFIXES = {".py", ".js", ".ts", ".java", ".go", ".rs", ".kt", ".cs", ".c", ".cc", ".cpp", ".h", ".hpp"}


def print_recall(benchmark: str, texts: list[BenchmarkText], hosts: list[str]) -> None:
    index = ContaminationIndex(texts)
    items: dict[str, dict[Part, str]] = defaultdict(dict)
    for text in texts:
        items[text.item].setdefault(text.part, text.text)
    shares = []
    for kinds in KINDS:
        planted = {
            item: plant(hosts[number % len(hosts)], "\n".join(parts[part] for part in kinds))
            for number, (item, parts) in enumerate(items.items())
            if all(part in parts for part in kinds)
        }
        found = sum(item in {match.item for match in index.find(text)} for item, text in planted.items())
        if planted:
            shares.append(f"{' + '.join(kinds)} {found}/{len(planted)} ({found / len(planted):.1%})")
    print(f"{benchmark}: {', '.join(shares)}; unguarded: {len(index.unguarded)}")


def print_accused(texts: list[BenchmarkText], folders: list[Path]) -> None:
    index = ContaminationIndex(texts)
    files, megabytes, accused, started_s = 0, 0.0, 0, time.process_time()
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in CLEAN_SUFFIXES):
        if not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        files, megabytes = files + 1, megabytes + len(text) / 1e6
        if found := index.find(text):
            accused += 1
            print(f"  {path.name}: {describe_contaminations(found)}: {text.splitlines()[found[0].line - 1].strip()!r}")
    cost_ms = (time.process_time() - started_s) * 1e3 / megabytes
    print(
        f"clean: {accused} of {files} files ({megabytes:.0f} MB) accused; {cost_ms:.0f} ms/MB with reading and tokens"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", type=Path, required=True)
    parser.add_argument("--clean", type=Path, nargs="*", default=[Path(sysconfig.get_path("stdlib"))])
    arguments = parser.parse_args()
    benchmarks = read_benchmarks([arguments.benchmarks])
    print(*benchmarks.describe(), sep="\n")
    by_name: dict[str, list[BenchmarkText]] = defaultdict(list)
    for text in benchmarks.texts:
        by_name[text.benchmark].append(text)
    hosts = list(read_library(30).values())
    for name, texts in sorted(by_name.items()):
        print_recall(name, texts, hosts)
    print_accused(list(benchmarks.texts), arguments.clean)
    return 0


if __name__ == "__main__":
    sys.exit(main())
