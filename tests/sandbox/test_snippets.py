"""Programs of a conversation: each language that is there runs, within limits, and what is not there is said."""

import pytest

from codegemma.errors import InputError
from codegemma.sandbox.box import Ended, Limits, Sandbox
from codegemma.sandbox.snippets import list_runnable, run_snippet

PROGRAMS = {
    "python": "print(sum(map(int, input().split())))",
    "javascript": "import fs from 'fs'; console.log(String(fs.readFileSync(0)).split(' ').reduce((a, b) => +a + +b))",
    "shell": 'read a b; echo "$((a + b))"',
    "c": '#include <stdio.h>\nint main() { int a, b; scanf("%d %d", &a, &b); printf("%d\\n", a + b); }',
    "cpp": "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b << std::endl; }",
}


@pytest.mark.parametrize("language", PROGRAMS)
def test_a_program_reads_and_writes(sandbox: Sandbox, language: str) -> None:
    if language not in list_runnable():
        pytest.skip(f"{language} cannot be run on this machine")
    ran = run_snippet(sandbox, PROGRAMS[language], language, stdin="2 3", limits=Limits(wall_s=60, cpu_s=60))
    assert (ran.exit_code, ran.stdout) == (0, b"5\n"), ran


def test_a_program_that_does_not_end_is_ended(sandbox: Sandbox) -> None:
    assert run_snippet(sandbox, "while True: pass", "py", limits=Limits(wall_s=0.5)).ended is Ended.TIME


def test_an_unknown_language_is_refused_with_those_that_are_known(sandbox: Sandbox) -> None:
    with pytest.raises(InputError, match=r"prolog cannot be run.*python"):
        run_snippet(sandbox, "x", "prolog")
