"""Joins the processes that train one model together, and lets them agree.

**In**: where the others are: said by the user, or found by JAX in the environment of Slurm, TPU pods, Kubernetes, MPI.
**Out**: a joined process; `agree` and `act_together`, which end on all processes with the same answer.
**Not**: a restart when one dies: `supervisor.py`, or the cluster's scheduler, does that.

A process that dies takes the others with it within `HEARTBEAT_S`: a sum over all devices that lacks one would otherwise
be waited for without end. Where there is one process, nothing here costs anything.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np

from codegemma.errors import MissingExtraError, UserError
from codegemma.train.guards import DivergedError, InterruptedRun

T = TypeVar("T")

# JAX's own 100 s would leave a pod idle for minutes; a process that is busy compiling still answers, by a thread.
HEARTBEAT_S = 10
# The processes of a large job do not start at one time: images are pulled, nodes boot.
_MEETING_S = 300
_PARTING_S = 30
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class PeerError(UserError):
    """Another process of the run cannot go on; its own message says why."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the processes meet, how many they are, and which this is; what is `None`, JAX finds out."""

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Cluster":
        """Read what `--cluster` says.

        >>> Cluster.parse("node1:8476,4,2")
        Cluster(coordinator='node1:8476', processes=4, process=2)
        >>> Cluster.parse("auto")
        Cluster(coordinator=None, processes=None, process=None)

        Raises:
            ValueError: it is neither.
        """
        if text == "auto":
            return cls()
        coordinator, *numbers = text.split(",")
        is_address = coordinator.rpartition(":")[2].isdigit() and len(coordinator.rpartition(":")[0]) > 0
        if not is_address or len(numbers) != 2 or not all(number.isdigit() for number in numbers):
            raise ValueError(f"wanted auto, or HOST:PORT,PROCESSES,PROCESS such as node1:8476,4,0; got {text!r}")
        processes, process = map(int, numbers)
        if process >= processes:
            raise ValueError(f"process {process} of {processes}: processes count from 0")
        return cls(coordinator, processes, process)


@contextlib.contextmanager
def join_cluster(cluster: Cluster | None, tell: Callable[[BaseException], int]) -> Iterator[None]:
    """Be one of several processes for as long as the block lasts; without a cluster, be alone.

    An error ends the process at once, with the code that `tell` returns: parting in order would wait for the others,
    who wait for this one.

    Raises:
        UserError: nobody says where the others are, or they do not come.
    """
    join_pathways()
    if cluster is None:
        yield
        return
    _keep_stdout_clean()
    try:
        _meet(cluster)
        yield
    except (DivergedError, InterruptedRun):  # all processes come here, after the same step
        jax.distributed.shutdown()
        raise
    except BaseException as error:
        code = tell(error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    else:
        jax.distributed.shutdown()


def _keep_stdout_clean() -> None:
    """Let what libraries print to the descriptor of standard output (gloo does) go where errors go."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    os.dup2(2, 1)


def _meet(cluster: Cluster) -> None:
    options: dict[str, Any] = {}
    if cluster.coordinator is not None and cluster.coordinator.rpartition(":")[0] in _LOOPBACK:
        # Otherwise the coordinator would listen on every address of this machine.
        options["coordinator_bind_address"] = cluster.coordinator
    # Programs that add up over processes must come in one order.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        jax.distributed.initialize(
            coordinator_address=cluster.coordinator,
            num_processes=cluster.processes,
            process_id=cluster.process,
            initialization_timeout=_MEETING_S,
            heartbeat_timeout_seconds=HEARTBEAT_S,
            shutdown_timeout_seconds=_PARTING_S,
            **options,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"the processes of this run did not find each other ({reason}). --cluster auto knows Slurm (srun), TPU "
            "pods, Kubernetes jobs and MPI; elsewhere say --cluster HOST:PORT,PROCESSES,PROCESS on each"
        ) from error


def join_pathways() -> None:
    """Attach to Pathways where its proxy is configured: one process then sees all devices.

    Raises:
        MissingExtraError: it is configured, and its client is not installed.
    """
    if "proxy" not in os.environ.get("JAX_PLATFORMS", "").split(","):
        return
    try:
        pathways = importlib.import_module("pathwaysutils")
    except ImportError as error:
        raise MissingExtraError(
            "JAX_PLATFORMS names the proxy of Pathways; its client is missing: pip install codegemma[pathways]"
        ) from error
    pathways.initialize()


def is_leader() -> bool:
    """Tell whether this is the process that writes what is written once."""
    return jax.process_index() == 0


def agree(*flags: bool) -> tuple[bool, ...]:
    """Tell all processes which flags any of them has raised; each calls this at the same point."""
    if jax.process_count() == 1:
        return flags
    from jax.experimental import multihost_utils

    raised = multihost_utils.process_allgather(np.array(flags, np.int32))
    return tuple(bool(flag) for flag in np.any(raised, axis=0))


def act_together(act: Callable[[], T]) -> T:
    """Act on every process; if one fails, all stop, and only that one tells why.

    Raises:
        PeerError: another process failed.
    """
    try:
        result = act()
    except Exception:
        agree(True)
        raise
    if agree(False)[0]:
        raise PeerError("another process of this run failed; its own message says why")
    return result


def act_first(act: Callable[[], T], others: Callable[[], T]) -> T:
    """Let the leader act; then, when it is done, the others."""
    done = act_together(act if is_leader() else lambda: None)
    done = act_together((lambda: done) if is_leader() else others)
    return done  # type: ignore[return-value]


def share_numbers(numbers: Sequence[int]) -> list[int]:
    """Give all processes the leader's numbers, at most 64, none negative."""
    if jax.process_count() == 1:
        return list(numbers)
    from jax.experimental import multihost_utils

    padded = np.full(64, -1)
    padded[: min(len(numbers), 64)] = numbers[:64]
    shared: np.ndarray = multihost_utils.broadcast_one_to_all(padded)
    return [int(number) for number in shared if number >= 0]
