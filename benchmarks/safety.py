"""What safety and quality cost per megabyte, and how well secrets are found, beside detect-secrets and datatrove.

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install detect-secrets==1.5.0 gibberish-detector "datatrove[processing]==0.10.1" pytest responses
    python benchmarks/safety.py --peer-python /tmp/peers/bin/python [FOLDER...]     # default: the standard library

Options add gitleaks' own table (`--gitleaks config/gitleaks.toml`), detect-secrets' own test cases
(`--detect-secrets-tests tests/plugins` of a clone) and BigCode's gibberish filter (`--gibberish-model big.model`).

Findings in clean code are taken for false. In the tests' cases, stand-ins for random characters (`xxxx`, `abcd1234`,
`EXAMPLE`) are shown as they are and, as `filled`, with random characters in their place: the same for both.
"""

import argparse
import json
import random
import re
import secrets
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.corpus.secret_shapes import SHAPES, draw_secret

from codegemma.corpus.block_list import BlockList, find_blocked, read_block_list
from codegemma.corpus.block_list_maker import make_block_list
from codegemma.corpus.personal import find_personal
from codegemma.corpus.quality import find_defect
from codegemma.corpus.quality_rules import load_quality_rules
from codegemma.corpus.safety import find_secrets
from codegemma.corpus.secret_rules import SecretRules, load_secret_rules

MAX_FILE_BYTES = 1 << 20
RUNS = 3
SAMPLES = 20
LISTED = 2_000
WANTED_RATIO = 5.0
STAND_INS = re.compile(
    r"([A-Za-z0-9])\1{3,}|(?:abcd1234|ABCD1234){2,}|(?:1234567890abcdef){2,}|(?:abcdefghij){2,}[a-d]*|EXAMPLE"
)


def read_texts(folders: Sequence[Path], max_mb: float) -> dict[str, str]:
    """Read Python files, evenly taken from the folders, up to a size."""
    found = ((path, folder) for folder in folders for path in sorted(folder.rglob("*.py")))
    paths = [(path, folder) for path, folder in found if path.stat().st_size <= MAX_FILE_BYTES]
    random.Random(0).shuffle(paths)
    texts: dict[str, str] = {}
    size = 0
    for path, folder in paths:
        text = path.read_bytes().decode("utf-8", "ignore")
        if text and size < max_mb * 1e6:
            texts[path.relative_to(folder.parent).as_posix()] = text
            size += len(text.encode())
    return texts


def measure_cpu_s(work: Callable[[], Any]) -> float:
    """Take the median CPU seconds of some runs."""
    times_s = []
    for _ in range(RUNS):
        started_s = time.process_time()
        work()
        times_s.append(time.process_time() - started_s)
    return statistics.median(times_s)


def draw_block_list() -> BlockList:
    """Make a list of words that nobody writes."""
    words = ("words " + " ".join(secrets.token_hex(3) for _ in range(12)) for _ in range(LISTED))
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(make_block_list((*words, *(f"domain d{i}.example" for i in range(LISTED)))))
        file.flush()
        return read_block_list(file.name)


def ask_peers(python: str, texts: Sequence[str], **more: Any) -> dict[str, Any]:
    """Run `safety_peers.py` under the peers' Python."""
    request = {"texts": texts, "personal": False, "tests": None, "gibberish_model": None, **more}
    script = Path(__file__).with_name("safety_peers.py")
    done = subprocess.run(
        [python, str(script)], input=json.dumps(request).encode(), stdout=subprocess.PIPE, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{python}: the peers failed; install them as this script's first lines say")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def fill_stand_ins(text: str, source: random.Random) -> str:
    """Put random characters where a test has stand-ins for them."""

    def fill(match: re.Match[str]) -> str:
        run = match.group()
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if run.isupper() else "abcdefghijklmnopqrstuvwxyz"
        if run.isalpha() and run != run[0] * len(run):
            return "".join(source.choices(letters, k=len(run)))
        return "".join(source.choices("0123456789" + (letters if run.isupper() else "abcdef"), k=len(run)))

    return STAND_INS.sub(fill, text)


def print_costs(texts: dict[str, str], tables: dict[str, SecretRules], peers: dict[str, Any] | None) -> None:
    """Print CPU milliseconds per MB, ours and theirs."""
    size_mb = sum(len(text.encode()) for text in texts.values()) / 1e6
    block_list = draw_block_list()
    steps: dict[str, Callable[[], Any]] = {
        f"secrets, {name}": lambda rules=rules: [find_secrets(t, p, rules) for p, t in texts.items()]  # type: ignore[misc]
        for name, rules in tables.items()
    }
    steps["personal data"] = lambda: [find_personal(text, "repo") for text in texts.values()]
    python = load_quality_rules().of("python")
    steps["quality"] = lambda: [find_defect(text, python) for text in texts.values()]
    steps["block list"] = lambda: [find_blocked(text, block_list) for text in texts.values()]
    costs = {name: 1e3 * measure_cpu_s(work) / size_mb for name, work in steps.items()}
    theirs = {}
    if peers:
        theirs = {f"secrets, {name}": 1e3 * peers["scan"]["cpu_s"] / size_mb for name in tables}
        theirs["personal data"] = 1e3 * peers["personal"]["cpu_s"] / size_mb
    print(f"{len(texts)} files, {size_mb:.1f} MB; CPU milliseconds per MB, the median of {RUNS} runs of ours")
    print(f"{'step':28}{'ours':>10}{'MB/s':>8}{'peer':>10}{'ratio':>8}")
    for name, ms in costs.items():
        peer = f"{theirs[name]:10.1f}{theirs[name] / ms:8.1f}" if name in theirs else f"{'-':>10}{'-':>8}"
        print(f"{name:28}{ms:10.2f}{1e3 / ms:8.0f}{peer}")
    if theirs:
        least = min(theirs[name] / costs[name] for name in theirs)
        print(f"least ratio {least:.1f}, wanted {WANTED_RATIO}")
    print_findings(texts, tables, peers, size_mb)


def print_findings(
    texts: dict[str, str], tables: dict[str, SecretRules], peers: dict[str, Any] | None, size_mb: float
) -> None:
    """Print what is found in clean code, which is false until proved otherwise."""
    found = {
        name: [[f.rule_id for f in find_secrets(text, path, rules)] for path, text in texts.items()]
        for name, rules in tables.items()
    }
    if peers:
        found["detect-secrets"] = [[kind for kind, _ in hits] for hits in peers["scan"]["found"]]
    print(f"\n{'found in clean code by':28}{'hits':>8}{'per MB':>8}{'files':>8}{'of all':>8}  most")
    for name, hits in found.items():
        kinds = Counter(kind for row in hits for kind in row)
        files = sum(bool(row) for row in hits)
        most = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common(2))
        print(f"{name:28}{kinds.total():8}{kinds.total() / size_mb:8.2f}{files:8}{files / len(texts):8.2%}  {most}")


def print_recall(samples: dict[str, list[str]], tables: dict[str, SecretRules], theirs: list[bool] | None) -> None:
    """Print the share of secrets found, by kind; any finding counts, ours and theirs alike."""
    names = [*tables, *(["detect-secrets"] if theirs is not None else [])]
    print(f"{'kind':28}{'cases':>6}" + "".join(f"{name:>18}" for name in names))
    answers = iter(theirs or [])
    totals: Counter[str] = Counter()
    for kind, texts in samples.items():
        found = {name: sum(bool(find_secrets(t, "", rules)) for t in texts) for name, rules in tables.items()}
        if theirs is not None:
            found["detect-secrets"] = sum(next(answers) for _ in texts)
        totals.update(found)
        print(f"{kind:28}{len(texts):6}" + "".join(f"{found[name] / len(texts):18.0%}" for name in names))
    count = sum(map(len, samples.values()))
    print(f"{'all':28}{count:6}" + "".join(f"{totals[name] / count:18.1%}" for name in names) + "\n")


def group(cases: Sequence[tuple[str, str, bool]], is_secret: bool) -> dict[str, list[str]]:
    """Group the texts of cases by kind."""
    kinds = dict.fromkeys(kind for kind, _, wanted in cases if wanted == is_secret)
    return {kind: [text for other, text, wanted in cases if (other, wanted) == (kind, is_secret)] for kind in kinds}


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, default=[Path(sysconfig.get_path("stdlib"))])
    parser.add_argument("--mb", type=float, default=10.0, help="read at most so much [default: %(default)s]")
    parser.add_argument("--peer-python", help="a Python with the peers installed; without it, ours alone")
    parser.add_argument("--gitleaks", help="gitleaks' own table")
    parser.add_argument("--detect-secrets-tests", help="the folder tests/plugins of detect-secrets")
    parser.add_argument("--gibberish-model", help="the model of BigCode's gibberish filter")
    options = parser.parse_args()
    tables = {
        "ours": load_secret_rules(),
        **({"gitleaks": load_secret_rules(options.gitleaks)} if options.gitleaks else {}),
    }
    texts = read_texts(options.folders, options.mb)
    python, model = options.peer_python, options.gibberish_model
    peers = None
    if python:
        more = {"tests": options.detect_secrets_tests, "personal": True, "gibberish_model": model}
        peers = ask_peers(python, list(texts.values()), **more)
    print_costs(texts, tables, peers)

    def recall(samples: dict[str, list[str]]) -> None:
        flat = [text for kind in samples.values() for text in kind]
        theirs = [bool(hits) for hits in ask_peers(python, flat)["scan"]["found"]] if python else None
        print_recall(samples, tables, theirs)

    if peers and "cases" in peers:
        source = random.Random(0)
        filled = [(kind, fill_stand_ins(text, source), wanted) for kind, text, wanted in peers["cases"]]
        for title, cases, is_secret in (
            ("as they are", peers["cases"], True),
            ("filled", filled, True),
            ("that are no secrets, filled: less is better", filled, False),
        ):
            print(f"\nfound of detect-secrets' own cases, {title}")
            recall(group(cases, is_secret))
    print(f"\nfound of {SAMPLES} drawn secrets of each shape of our rules")
    source = random.Random(1)
    recall({rule: [draw_secret(s, source) for s in shapes for _ in range(SAMPLES)] for rule, shapes in SHAPES.items()})


if __name__ == "__main__":
    main()
