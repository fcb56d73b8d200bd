"""What the rules for documents keep of texts that people wrote and of files that are no prose, and what they cost.

    python benchmarks/documents.py [--mathematics gsm8k.jsonl.gz] [--synthetic mbpp.jsonl.gz]

Input: the topics of Python's help, the licences in /usr/share/common-licenses, the descriptions and Markdown files of
the installed packages; as junk, tables, JSON and lists of files of the same packages. Mathematics and tasks with their
code are read from files that are named. Cost is CPU time, model loaded before.
"""

import argparse
import gzip
import json
import sysconfig
import time
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics

from codegemma.corpus.documents import read_record
from codegemma.corpus.english import English, measure_english
from codegemma.corpus.quality import find_document_defect
from codegemma.corpus.quality_rules import load_quality_rules

MAX_JUNK_FILES, MAX_JUNK_CHARS = 150, 200_000


def read_files(folder: Path, pattern: str, most: int = 1_000) -> list[str]:
    files = [path for path in sorted(folder.rglob(pattern)) if path.is_file()][:most]
    return [path.read_text(encoding="utf-8", errors="replace")[:MAX_JUNK_CHARS] for path in files]


def read_lines(path: str) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mathematics")
    parser.add_argument("--synthetic")
    arguments = parser.parse_args()
    site = Path(sysconfig.get_path("purelib"))
    described = [text.partition("\n\n")[2] for text in read_files(site, "METADATA")]
    junk = [text for pattern in ("*.csv", "*.json", "RECORD") for text in read_files(site, pattern, MAX_JUNK_FILES)]
    sets = {
        "Python's help": ("text", list(topics.values())),
        "licences": ("text", read_files(Path("/usr/share/common-licenses"), "*")),
        "descriptions of packages": ("markdown", [text for text in described if len(text) > 300]),
        "Markdown in packages": ("markdown", read_files(site, "*.md")),
        "junk": ("text", junk),
    }
    if arguments.mathematics:
        texts = [read_record(json.dumps(row).encode()).text for row in read_lines(arguments.mathematics)]
        sets["mathematics"] = ("math", texts)
    if arguments.synthetic:
        rows = read_lines(arguments.synthetic)
        sets["tasks with code"] = ("synthetic", [f"{row['text']}\n\n```python\n{row['code']}\n```\n" for row in rows])
    measure_english("Load the model before the clock starts to run.")
    rules = load_quality_rules()
    for name, (table, found) in sets.items():
        texts = [text for text in found if text.strip()]
        start = time.process_time()
        defects = [find_document_defect(text, rules.of(table), English.LIKELY) for text in texts]
        cost_s = time.process_time() - start
        reasons = Counter(defect.reason for defect in defects if defect)
        kept, megabytes = defects.count(None) / max(len(texts), 1), sum(map(len, texts)) / 1e6
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(5))
        print(f"{name:26}{len(texts):6} of {megabytes:5.2f} MB {kept:7.1%} kept {cost_s / megabytes * 1e3:6.0f} ms/MB")
        print(f"{'':26}{table:10} {told}")


if __name__ == "__main__":
    main()
