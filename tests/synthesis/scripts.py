"""What a scripted model answers to each snippet, for which reason that goes, and the server that it answers from."""

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
from tests.http_server import listen

from codegemma.records import Pack, PackedFile, Split
from codegemma.shards import write_records
from codegemma.synthesis.outcomes import Reason

DOUBLE = "def double(numbers):\n    return [2 * number for number in numbers if number is not None]\n"
DOUBLE_TESTS = (
    "from solution import double\n"
    "def test_edges():\n    assert double([]) == []\n    assert double([None]) == []\n"
    "assert double([1, 2]) == [2, 4]\nassert double([-3]) == [-6]\nassert double([0]) == [0]\n"
)
VOWELS = "def count_vowels(text):\n    return sum(char in 'aeiou' for char in text.lower())\n"
VOWELS_TESTS = (
    "assert count_vowels('') == 0\nassert count_vowels('AbE') == 2\nassert count_vowels('xyz') == 0\n"
    "for word, wanted in (('banana', 3), ('Io', 2), ('queue', 4)):\n    assert count_vowels(word) == wanted\n"
)
WORDS = "Write double(numbers), which gives a list of each number of a list times two; what is None is left out."
VOWEL_WORDS = "Count how many letters of some text are vowels, whether they are small or capital, and tell the sum."
ITEM = {
    "task_id": "Guarded/1",
    "prompt": "def interleave(a, b):\n    '''Shuffle two decks of playing cards into one, alternately.'''\n",
    "canonical_solution": "    return [card for pair in zip(a, b) for card in pair]\n",
    "test": "assert interleave([1], [2]) == [1, 2]",
}


def spell(problem: str, solution: str, tests: str) -> str:
    """Spell an answer as it is asked for."""
    return f"## Problem\n{problem}\n\n## Solution\n```python\n{solution}```\n\n## Tests\n```python\n{tests}```\n"


# For each snippet what the model answers, and the reason for which that goes; `None` where it stays.
DRAFTS: dict[str, tuple[str, Reason | None]] = {
    "good": (spell(WORDS, DOUBLE, DOUBLE_TESTS), None),
    "other": (spell(VOWEL_WORDS, VOWELS, VOWELS_TESTS), None),
    "same": (spell(WORDS, DOUBLE, DOUBLE_TESTS), Reason.NEAR_DUPLICATE),
    "garbage": ("I am sorry, as a model.", Reason.UNREADABLE),
    "surrogate": (spell(WORDS, "x = '\ud800'\n", DOUBLE_TESTS), Reason.UNREADABLE),
    "cut": (spell(WORDS, DOUBLE, DOUBLE_TESTS), Reason.CUT_OFF),
    "short": (spell("Double it.", DOUBLE, DOUBLE_TESTS), Reason.SHORT_PROBLEM),
    "unparsable": (spell(WORDS, "def double(\n", DOUBLE_TESTS), Reason.SOLUTION_UNPARSABLE),
    "unparsable_tests": (spell(WORDS, DOUBLE, "assert (\n"), Reason.TESTS_UNPARSABLE),
    "no_function": (spell(WORDS, "double = 2\n", "assert double == 2\n"), Reason.NO_FUNCTION),
    "no_assertion": (spell(WORDS, DOUBLE, "print(double([1]))\n"), Reason.NO_ASSERTION),
    "nothing_tested": (spell(WORDS, DOUBLE, "assert 2 * 2 == 4\n"), Reason.NOTHING_TESTED),
    "raises": (spell(WORDS, f"import no_such_module\n{DOUBLE}", DOUBLE_TESTS), Reason.DOES_NOT_RUN),
    "wrong": (spell(WORDS, DOUBLE.replace("2 *", "3 *"), DOUBLE_TESTS), Reason.FAILS_ITS_TESTS),
    "endless": (spell(WORDS, "def double(x):\n    while True:\n        pass\n", DOUBLE_TESTS), Reason.TOO_SLOW),
    "lenient": (spell(WORDS, DOUBLE, "assert double([1]) in ([2], None)\n"), Reason.BROKEN_PASSES),
    "guarded": (
        spell(str(ITEM["prompt"]), f"{ITEM['prompt']}{ITEM['canonical_solution']}", f"{ITEM['test']}\n"),
        Reason.BENCHMARK_OVERLAP,
    ),
    "incorrect": (spell(f"{WORDS} INCORRECT", DOUBLE, DOUBLE_TESTS), Reason.INCORRECT),
    "unhelpful": (spell(f"{WORDS} UNHELPFUL", DOUBLE, DOUBLE_TESTS), Reason.UNHELPFUL),
    "unjudged": (spell(f"{WORDS} UNJUDGED", DOUBLE, DOUBLE_TESTS), Reason.NO_VERDICT),
    "refused": ("", Reason.NO_ANSWER),
    "broken_json": ("", Reason.NO_ANSWER),
    "strange_json": ("", Reason.NO_ANSWER),
    # These fail at first, and are well later.
    "busy": (spell(VOWEL_WORDS.upper(), VOWELS.replace("text", "words"), VOWELS_TESTS), None),
    "silent": (
        spell("Reverse the words of a sentence; several blanks between two words become a single one of them.",
              "def turn(line):\n    return ' '.join(line.split()[::-1])\n",
              "assert turn('a b') == 'b a'\nassert turn('') == ''\nassert turn(' x  y z') == 'z y x'\n"),
        None,
    ),
    "moody": (
        spell("Give the largest difference between neighbours of a list of integers, and 0 where there is none.",
              "def leap(values):\n    return max((abs(b - a) for a, b in zip(values, values[1:])), default=0)\n",
              "assert leap([]) == 0\nassert leap([1, 5]) == 4\nassert leap([5, 1, 2]) == 4\nassert leap([3]) == 0\n"),
        None,
    ),
}  # fmt: skip


@dataclass
class Script:
    """What the server was asked. Set, `gate` lets it answer; `served` counts the answers to each snippet."""

    gate: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)
    asked: Counter[str] = field(default_factory=Counter)
    judged: int = 0
    judge_temperatures: list[float] = field(default_factory=list)
    # Beyond so many drafts nobody is answered until the gate is open.
    free_drafts: int = 10**9
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, name: str) -> int:
        """Count a question about a snippet."""
        with self.lock:
            self.asked[name] += 1
            is_over = sum(self.asked.values()) > self.free_drafts
            number = self.asked[name]
        if is_over:
            self.gate.wait(600)
        return number


def find_snippet(words: str) -> str:
    """Tell which snippet a question is about."""
    found = re.search(r"snippet = '(\w+)'", words)
    assert found
    return found[1]


@contextmanager
def serve(script: Script) -> Iterator[str]:
    """Serve the script on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            send(self, 200, {"data": [{"id": "scripted", "max_model_len": "many"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            words = body["messages"][-1]["content"]
            if "Judge an exercise" in words:
                with script.lock:
                    script.judged += 1
                    script.judge_temperatures.append(body["temperature"])
                send(self, 200, wrap(judge(words)))
            else:
                name = find_snippet(words)
                answer_draft(self, name, script.take(name), script)

    with listen(Handler) as address:
        try:
            yield address
        finally:
            script.closing.set()


def answer_draft(handler: BaseHTTPRequestHandler, name: str, number: int, script: Script) -> None:
    """Answer the question about a snippet for the so-and-so-manieth time."""
    text = DRAFTS[name][0]
    if name == "busy" and number == 1:
        send(handler, 429, {"error": {"message": "slow down"}}, Retry_After="1")
    elif name == "refused":
        send(handler, 500, {"error": "out of memory"})
    elif name == "broken_json":
        send(handler, 200, b"<html>")
    elif name == "strange_json":
        send(handler, 200, {"choices": ["?"], "usage": [1]})
    elif name == "silent" and number == 1:
        script.closing.wait(60)
    elif name == "moody" and number == 1:
        send(handler, 200, wrap("Let me think about it."))
    else:
        send(handler, 200, wrap(text, "length" if name == "cut" else "stop"))


def judge(words: str) -> str:
    """Judge by a word in the problem."""
    if "UNJUDGED" in words:
        return "What a nice exercise, 10/10."
    helpfulness, correctness = 2 if "UNHELPFUL" in words else 5, 1 if "INCORRECT" in words else 4
    return f"Fine.\nHelpfulness: {helpfulness}\nCorrectness: {correctness}"


def wrap(text: str, ended_by: str = "stop") -> dict[str, Any]:
    """Spell an answer as OpenAI does."""
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": ended_by}
    return {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}


def send(handler: BaseHTTPRequestHandler, status: int, body: object, **headers: str) -> None:
    """Send one reply; whoever asked may be gone."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)
    except OSError:
        return


def write_corpus(folder: Path, names: list[str]) -> Path:
    """Write packs with a file for each snippet."""
    none = np.zeros(0, np.int32)
    files = [
        PackedFile(f"{name}.py", "python", f"snippet = '{name}'\nother = {number}\nthird = 3\n", f"b{number}", "MIT",
                   none, np.zeros(1, np.int32))
        for number, name in enumerate(names)
    ]  # fmt: skip
    packs = [Pack(f"p{number}", "seeds", "c0ffee", Split.TRAIN, (file,)) for number, file in enumerate(files)]
    folder.mkdir(parents=True)
    write_records(folder / "packs-train.parquet", packs)
    return folder
