"""VS Code in a browser: explain, ask, document, fix and write tests for a selection, as a person would."""

import json
import os
import subprocess
from pathlib import Path

from tests.clients.conftest import MODULES, find_program
from tests.serve.conftest import serve
from tests.serve.parrot import Scripted

from codegemma.text.tokenizer import train_tokenizer

ACCOUNT = """class Account:
    def __init__(self):
        self.balance = 0

    def withdraw(self, amount):
        self.balance = self.balance + amount
        return self.balance

    def is_empty(self):
        return self.balance == 0
"""
FIRST, LINES = 5, 3
DOCUMENTED = '''def withdraw(self, amount):
    """Take an amount out, and say what is left."""
    self.balance = self.balance + amount
    return self.balance'''
REPAIRED = DOCUMENTED.replace("+ amount", "- amount")
TESTS = "def test_withdraw():\n    assert Account().withdraw(1) == -1"
ANSWERS = {
    "Explain this code": "It takes an **amount** out:\n\n1. the balance changes\n2. it is told\n\n"
    "```python\nAccount().withdraw(5)\n```\n\nThat is all.",
    "Is it right?": "No: it *adds*. <img src=x onerror=alert(1)>",
    "Add documentation": f"Here:\n\n```python\n{DOCUMENTED}\n```\n",
    "Find what is wrong": f"```python\n{REPAIRED}\n```\n\nIt added.",
    "Write unit tests": f"```python\n{TESTS}\n```\n",
}
ASKED, IN_CODE = ["wait", ".quick-input-widget input:focus"], ["wait", ".monaco-editor.focused"]
SELECT = [["key", "Control+g"], ASKED, ["write", f"{FIRST}:1"], ["key", "Enter"], IN_CODE,
          *[["key", "Shift+ArrowDown"]] * LINES]  # fmt: skip


def say(command: str) -> list[list[str]]:
    """Give a command by the palette."""
    found = f".quick-input-list .monaco-list-row.focused:has-text('{command}')"
    return [["key", "F1"], ASKED, ["write", f"codegemma: {command}"], ["wait", found], ["key", "Enter"]]


def picture(name: str) -> list[list[str]]:
    folder = os.environ.get("CODEGEMMA_TEST_PICTURES")
    return [["pause", "1500"], ["picture", f"{folder}/{name}.png"]] if folder else []


def test_a_selection_is_explained_asked_about_documented_repaired_and_tested(code_server, tmp_path):
    file = tmp_path / "account.py"
    file.write_text(ACCOUNT)
    tokenizer = train_tokenizer([ACCOUNT, *ANSWERS.values()] * 5, vocab_size=600)
    taken, left = ["click", "Take it"], ["click", "Leave it"]
    acts: list[list[str]] = [
        ["wait", ".statusbar-item[id*=codegemma]"], ["press", ".view-line"], IN_CODE, *SELECT,
        ["key", "Shift+F10"], ["hover", "codegemma"], ["waitText", "Write tests"], *picture("menu"),
        # A click in a menu beside a menu may be lost on a busy machine: the palette waits for what it shows.
        ["key", "Escape"], ["key", "Escape"], IN_CODE, *say("Explain"),
        ["readInside", "article:has-text('That is all') .words"], *picture("explain"),
        *say("Ask about the selection"), ["waitText", "What do you want to know"], ASKED, ["write", "Is it right?"],
        ["key", "Enter"], ["readInside", "article:has-text('onerror') .words"],
        *say("Document"), ["waitText", "Take an amount out"], *picture("document"),
        taken, ["gone", ".monaco-diff-editor"], ["wait", ".tab.dirty"], IN_CODE,
        ["key", "Control+s"], ["gone", ".tab.dirty"],
        *SELECT, *say("Fix"), ["waitText", "self.balance - amount"], *picture("fix"),
        left, ["gone", ".monaco-diff-editor"], ["press", ".view-line"], IN_CODE,
        *SELECT, *say("Write tests"), ["waitText", "def test_withdraw"], *picture("tests"),
    ]  # fmt: skip
    with serve(Scripted(tokenizer, ANSWERS)) as running:
        code_server.set({"codegemma.server": running.url, "codegemma.enabled": False})
        explained, asked = use(code_server.url, file, acts)
        prompts = [tokenizer.decode(list(g.prompt_ids)) for g in running.parrot.generations[1:]]
    assert "It takes an amount out:" in explained
    assert asked == "No: it adds. <img src=x onerror=alert(1)>"
    lines = ACCOUNT.splitlines(keepends=True)
    meant = "".join(lines[FIRST - 1 : FIRST - 1 + LINES])
    assert all("`account.py`:\n```python\n" in prompt for prompt in prompts)
    assert meant.rstrip("\n") in prompts[0]
    assert "def is_empty" not in prompts[0]
    inside = "".join(f"    {line}\n" for line in DOCUMENTED.splitlines())
    assert file.read_text() == ACCOUNT.replace(meant, inside)


def use(url: str, file: Path, acts: list[list[str]]) -> list[str]:
    place = url.removeprefix("http://")
    opened = json.dumps([["openFile", f"vscode-remote://{place}{file}"]])
    ask = {"url": f"{url}/?folder={file.parent}&payload={opened}", "browser": find_program("chromium"), "acts": acts}
    done = subprocess.run(
        [find_program("node"), Path(__file__).with_name("page.js"), json.dumps(ask | {"width": 1280, "height": 560})],
        env={**os.environ, "NODE_PATH": str(MODULES)}, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: list[str] = json.loads(done.stdout)["read"]
    return told
