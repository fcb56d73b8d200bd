"""Runs tests against a program that runs in another box. Started with the number of an open socket.

**In**: for each examination, a trusted text, the tests, and a socket to the box of the program.
**Out**: one verdict for each, from a child that this process forks: how the tests ended, and why.
**Not**: the program. What it gives comes as plain data or as a `Remote`, and is compared here.
"""

import builtins
import os
import signal
import socket
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from wire import WireError, decode, encode, receive, send  # type: ignore[import-not-found]

sys.path.pop(0)
_MAX_REASON_CHARS = 300


class CandidateError(Exception):
    """The program raised an error of a kind that is not built in."""


class CandidateGoneError(BaseException):
    """The program ended, or no longer speaks in messages; no test may take that for an error of its own."""


class Remote:
    """What stays in the other box: a function, a class, an object. Two are equal where they are the same."""

    def __init__(self, candidate: "Candidate", number: int, kind: str) -> None:
        self.__dict__.update(_candidate=candidate, _number=number, _kind=kind)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Let the other box make the call."""
        return self._candidate.ask(self, "call", arguments, named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # copying and the like, which would leave for the other box without end
        return self._candidate.ask(self, "get", (name,))

    def __setattr__(self, name: str, value: Any) -> None:
        self._candidate.ask(self, "set", (name, value))

    def __getitem__(self, key: Any) -> Any:
        return self._candidate.ask(self, "item", (key,))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._candidate.ask(self, "list"))

    def __len__(self) -> int:
        return int(self._candidate.ask(self, "len"))

    def __bool__(self) -> bool:
        return bool(self._candidate.ask(self, "truth"))

    def __str__(self) -> str:
        return str(self._candidate.ask(self, "text"))


class Candidate:
    """The program at the other end of a socket."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def load(self, source: str) -> dict[str, Any]:
        """Run the program's text; tell what it defined, functions and classes as `Remote`.

        Tests may lean on what the program imports, such as `math`: they get this box's own, under its own name only.
        """
        answer = self._exchange(source)
        try:
            imported = {name: import_module(name) for name in answer["modules"] if name in sys.stdlib_module_names}
            return imported | {name: decode(value, self._look_up) for name, value in answer["names"].items()}
        except (WireError, KeyError, AttributeError, TypeError, ImportError) as error:
            raise CandidateGoneError(f"answers in no form that is known ({error})") from error

    def ask(self, of: Remote, act: str, arguments: tuple[Any, ...] = (), named: dict[str, Any] | None = None) -> Any:
        """Let the program do something, and take what it gives."""
        request: dict[str, Any] = {"act": act, "of": _number(of), "arguments": []}
        request["arguments"] = [encode(argument, _number) for argument in arguments]
        if named:
            request["named"] = {name: encode(value, _number) for name, value in named.items()}
        answer = self._exchange(request)
        try:
            return decode(answer["value"], self._look_up)
        except (WireError, KeyError) as error:
            raise CandidateGoneError(f"answers in no form that is known ({error})") from error

    def _look_up(self, reference: Any) -> Remote:
        number, kind = reference
        return Remote(self, int(number), str(kind))

    def _exchange(self, message: Any) -> Any:
        try:
            send(self._channel, message)
            answer = receive(self._channel)
        except (EOFError, OSError) as error:
            raise CandidateGoneError("ended before its tests did") from error
        except WireError as error:
            raise CandidateGoneError(str(error)) from error
        if not isinstance(answer, dict):
            raise CandidateGoneError("answers in no form that is known")
        if "raised" in answer:
            raise _remake(str(answer["raised"]), str(answer.get("reason", "")))
        return answer


def _number(value: Any) -> list[Any]:
    if not isinstance(value, Remote):
        raise WireError(f"a {type(value).__name__} cannot be given to the program: it is not plain data")
    return [value._number]


def _remake(name: str, reason: str) -> Exception:
    kind = getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        return CandidateError(f"{name}: {reason}")
    try:
        return kind(reason)
    except TypeError:
        return CandidateError(f"{name}: {reason}")  # such as UnicodeDecodeError, which takes five arguments


def examine(job: dict[str, Any], channel: socket.socket) -> dict[str, str]:
    """Run the trusted text, then the tests with the program's names in their place."""
    candidate = Candidate(channel)
    namespace: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(compile(job["trusted"], "trusted.py", "exec"), namespace)  # noqa: S102
        defined = candidate.load(job["program"])
        wanted = defined if job["names"] is None else job["names"]
        for name in wanted:
            if name not in defined:
                return {"outcome": "error", "reason": f"NameError: the program does not define {name}"}
            namespace[name] = defined[name]
        exec(compile(job["tests"], "tests.py", "exec"), namespace)  # noqa: S102
    except CandidateGoneError as error:
        return {"outcome": "gone", "reason": str(error)}
    except AssertionError as error:
        return {"outcome": "failed", "reason": str(error)[:_MAX_REASON_CHARS]}
    except BaseException as error:
        return {"outcome": "error", "reason": f"{type(error).__name__}: {error}"[:_MAX_REASON_CHARS]}
    return {"outcome": "passed", "reason": ""}


def main() -> None:
    """Fork a child for every examination that is asked for, until nobody asks any more."""
    sys.set_int_max_str_digits(0)
    orders = socket.socket(fileno=int(sys.argv[1]))
    # Nobody reads what tests print.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    while True:
        head, descriptors, _, _ = socket.recv_fds(orders, 1, 2)
        if not head:
            return
        job = receive(orders)
        if os.fork() == 0:
            # Tests that do not end are nobody's fault but end all the same.
            signal.alarm(job["seconds"])
            to_candidate, verdicts = (socket.socket(fileno=number) for number in descriptors)
            orders.close()
            send(verdicts, examine(job, to_candidate))
            os._exit(0)
        for number in descriptors:
            os.close(number)
        while True:  # collect children that have ended
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break


if __name__ == "__main__":
    main()
