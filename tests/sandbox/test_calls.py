"""Many programs in one box: each gives what it gives, and one that misbehaves costs the others nothing."""

import dataclasses
from collections.abc import Iterator

import pytest

from codegemma.errors import InputError, UserError
from codegemma.sandbox import calls
from codegemma.sandbox.calls import NO_VALUE, Caller, Told

GOOD = "def f(x):\n    return x + 1"


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    try:
        opened = Caller(seconds=3.0)
    except UserError as error:
        pytest.skip(str(error))
    with opened:
        yield opened


def test_each_call_tells_what_it_gave_or_that_it_raised(caller: Caller) -> None:
    told = caller.call([GOOD, "def f(x): return [1, 'a', None, (2,)][x]", GOOD], "f", [[1], [2], [40]])
    assert told[0] == told[2] == Told((2, 3, 41))
    assert told[1] == Told(("a", None, NO_VALUE))


@pytest.mark.parametrize(
    "bad",
    [
        "def f(x",
        "g = 1",
        "import os; os._exit(0)",
        "import sys; sys.exit(1)",
        "def f(x): return object()",
        "def f(x): return [0] * 10**9",
        "def f(x):\n    return f(x)",
        # Answers in the server's place, more than is asked, or nonsense; looks for the socket.
        "import os\nfor n in range(3, 30):\n    try: os.write(n, b'\\0\\0\\0\\x05[[2]]')\n    except OSError: pass\n"
        "os._exit(0)",
        "import os\nfor n in range(3, 30):\n    try: os.write(n, b'x' * 99999)\n    except OSError: pass",
    ],
)  # fmt: skip
def test_a_bad_program_gives_nothing_and_the_next_is_none_the_worse(caller: Caller, bad: str) -> None:
    first, second = caller.call([bad, GOOD], "f", [[1]])
    # What a program spells in its own pipe is its answer: it gains nothing by that, as nobody told it what is wanted.
    assert first.values in ((), (NO_VALUE,)) or "[[2]]" in bad
    assert second == Told((2,))


def test_a_program_that_ends_the_server_is_tried_alone_and_the_others_again(caller: Caller) -> None:
    killer = "import os, signal\nos.kill(-1, signal.SIGKILL)\ndef f(x): return x"
    programs = [GOOD, killer, "def f(x): return x * 3"]
    told = caller.call(programs, "f", [[2]])
    assert (told[0], told[1], told[2]) == (Told((3,)), Told(), Told((6,)))


def test_where_every_box_goes_down_no_program_is_blamed(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_BOX_LIMITS", dataclasses.replace(calls._BOX_LIMITS, address_bytes=2**20))
    with Caller() as starved, pytest.raises(InputError, match="boxes go down on this machine"):
        starved.call([GOOD], "f", [[1]])
    assert caller.call([GOOD], "f", [[1]]) == [Told((2,))]


def test_a_loop_ends_late_and_alone(caller: Caller) -> None:
    told = caller.call(["def f(x):\n    while True: pass", GOOD], "f", [[2]])
    assert told[0].is_late
    assert told[1] == Told((3,))


def test_no_program_sees_the_network_or_another_ones_files(caller: Caller) -> None:
    probe = "import socket\ndef f(x):\n    socket.create_connection(('1.1.1.1', 80), 1)\n    return 1"
    assert caller.call([probe], "f", [[0]])[0].values in ((NO_VALUE,), ())
