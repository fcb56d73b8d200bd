"""Which sizes of a step are compiled, and the smallest of them that will do.

**In**: sizes, and what compiles one.
**Out**: `Programs`: the size to compute a step in.
**Not**: what is compiled (`compute.py`), and which sizes there are (`shapes.py`).

A server answers as soon as an editor's sizes are there; the rest is compiled behind it. Whoever comes meanwhile
computes in a larger size that is ready, for padding costs milliseconds where compiling costs a second.
"""

import atexit
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Size(NamedTuple):
    """Rows of a step, tokens of each, how far each reaches back; whether the tokens are read, or written as a block."""

    rows: int
    tokens: int
    reach: int
    is_block: bool = False


class Programs:
    """What is compiled; one thread computes, another may compile behind it."""

    def __init__(self, compile_size: Callable[[Size], object]) -> None:
        """Know of nothing that is compiled."""
        self._compile = compile_size
        self._ready: set[Size] = set()
        self._thread: threading.Thread | None = None
        self._is_closing = threading.Event()

    def compile(self, sizes: Iterable[Size]) -> int:
        """Compile sizes now, and tell how many."""
        wanted = list(sizes)
        for size in wanted:
            self._compile(size)
            self._ready.add(size)
        return len(wanted)

    def compile_behind(self, sizes: Iterable[Size]) -> None:
        """Compile the sizes that are not ready in a thread of their own."""
        rest = [size for size in sizes if size not in self._ready]
        self._thread = threading.Thread(target=self._compile_all, args=(rest,), name="codegemma-compile", daemon=True)
        _COMPILING.add(self)
        self._thread.start()

    def find(self, wanted: Size) -> Size | None:
        """Find the size for a step: as wanted, or with more rows or reach where that is still being compiled.

        `None` where nothing that is ready will do; whoever takes the wanted size then waits for it.
        """
        if wanted in self._ready or self._thread is None or not self._thread.is_alive():
            return wanted
        rows, tokens, reach, _ = wanted
        same = [s for s in self._ready.copy() if (s.tokens, s.is_block) == (tokens, wanted.is_block)]
        large = [s for s in same if s.rows >= rows and s.reach >= reach]
        return min(large, default=None, key=lambda size: (size.rows, size.reach))

    def close(self) -> None:
        """Stop compiling behind, after the size that is under way."""
        self._is_closing.set()
        if self._thread is not None:
            self._thread.join()

    def _compile_all(self, sizes: list[Size]) -> None:
        for size in sizes:
            if self._is_closing.is_set():
                return
            self.compile([size])


# A compiler in the midst of its work must not meet the end of the interpreter.
_COMPILING: "weakref.WeakSet[Programs]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for programs in list(_COMPILING):
        programs.close()
