"""Times a peer that reads a prompt and writes so many tokens; imported from beside the scripts of the peers.

Nothing of ours: it runs in the environments of the peers.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path


def print_speeds(
    version: str, write: Callable[[int], None], prompt_tokens: int, new_tokens: int, load_s: float, file_bytes: int
) -> None:
    """Print one JSON object: tokens per second of reading and writing, memory after it, and what came before."""

    def measure(count: int) -> float:
        began = time.perf_counter()
        write(count)
        return time.perf_counter() - began

    measure(1)
    one, all_of_them = measure(1), measure(new_tokens + 1)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    print(
        json.dumps(
            {
                "version": version,
                "load_s": load_s,
                "file_bytes": file_bytes,
                "prefill": prompt_tokens / one,
                "decode": new_tokens / (all_of_them - one),
                "memory_bytes": resident * 1024,
            }
        )
    )
