"""Runs published solutions with their tests, in a box, and tells what was called with what and what came back.

**In**: on standard input a JSON list of `{"solution", "tests", "name"}`.
**Out**: on standard output a JSON list of `{"calls": [[arguments, value], ...], "error"}`, values spelled by `wire`.
**Not**: any judgement: a solution that fails its tests is an error here.
"""

import contextlib
import copy
import json
import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from wire import WireError, encode  # type: ignore[import-not-found]

sys.path.pop(0)

# Some tests draw hundreds of inputs; so many of different ones say as much.
_MAX_CALLS = 24


def record(job: dict[str, str]) -> dict[str, Any]:
    """Run one problem."""
    random.seed(0)
    calls: dict[str, Any] = {}
    solution: dict[str, Any] = {"__name__": "solution"}
    try:
        exec(job["solution"], solution)  # noqa: S102
        function = solution[job["name"]]

        def called(*arguments: Any) -> Any:
            given = copy.deepcopy(arguments)
            value = function(*arguments)
            try:
                call = [encode(given, _refuse)[1], encode(value, _refuse)]
            except WireError:
                return value
            if len(calls) < _MAX_CALLS:
                calls.setdefault(json.dumps(call[0]), call)
            return value

        exec(job["tests"], {**solution, job["name"]: called})  # noqa: S102
    except Exception as error:
        return {"calls": [], "error": f"{type(error).__name__}: {error}"}
    return {"calls": list(calls.values()), "error": None}


def _refuse(value: object) -> None:
    raise WireError(f"a {type(value).__name__} is no plain data")


if __name__ == "__main__":
    sys.set_int_max_str_digits(0)
    with contextlib.redirect_stdout(sys.stderr):  # what programs print is no answer
        told = [record(job) for job in json.load(sys.stdin)]
    json.dump(told, sys.stdout)
