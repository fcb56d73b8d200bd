"""Compiles and runs programs of eight languages by plain commands, one by one, without a box: as BabelCode gives them.

**In**: the files of a program with the prelude that its language's programs share.
**Out**: what each took.
**Not**: a verdict; a program that fails is an error here.
"""

import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.core_time import Spent

# Cold compilers.
COMMANDS = {
    "cpp": "g++ -w main.cpp -o main.exe && ./main.exe",
    "csharp": "mcs -nologo -warn:0 -r:System.Numerics.dll -out:main.exe main.cs Tell.cs && mono main.exe",
    "go": "go build -o main.exe answer.go asked.go tell.go && ./main.exe",
    "java": "javac -d . Tell.java Asked.java && java Asked",
    "javascript": "node main.js .",
    "kotlin": "kotlinc -nowarn -no-reflect Asked.kt tell.kt -d . && "
    "java -cp .:/usr/share/kotlin/kotlinc/lib/kotlin-stdlib.jar plain.AskedKt",
    "python": "python3 -I main.py .",
    "rust": "rustc --edition 2021 -A warnings -L . main.rs -o main.exe && ./main.exe",
}  # fmt: skip
# What is no part of the programs, done before the clock starts.
_BEFORE = {"rust": "rustc --edition 2021 -A warnings --crate-type rlib --crate-name tell tell.rs"}


def run_plainly(
    key: str, programs: Sequence[Mapping[str, str]], prelude: Mapping[str, bytes], read_spent: Callable[[], Spent]
) -> Spent:
    """Compile and run programs one by one; tell what it took."""
    spent = Spent()
    for files in programs:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file, text in files.items():
                folder.joinpath(file).write_text(text.replace("@PACKAGE@", "plain"))
            for file, content in prelude.items():
                folder.joinpath(file).write_bytes(content)
            _run_shell(_BEFORE.get(key, "true"), folder)
            started = read_spent()
            _run_shell(COMMANDS[key], folder)
            spent += read_spent() - started
    return spent


def _run_shell(line: str, folder: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/tmp/plain", "GO111MODULE": "off", "CGO_ENABLED": "0"}  # noqa: S108
    subprocess.run(
        ["/bin/sh", "-c", line], input=b"mark\n", cwd=folder, env=environment, check=True, capture_output=True
    )
