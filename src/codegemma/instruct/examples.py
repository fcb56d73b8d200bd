"""What every source of conversations gives, and how it is written: JSON Lines that `codegemma align --chats` reads.

**In**: `Example`s, and for what is none its reason.
**Out**: one line each, `{"messages": [...], "origin": {...}}`; how many of which kind, and what was dropped by reason.
**Not**: where they come from. The file appears whole, under its name, or not at all.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from codegemma.align.chats import find_fault
from codegemma.corpus.benchmarks import read_benchmarks
from codegemma.corpus.decontaminate import ContaminationIndex, read_allow_list
from codegemma.errors import InputError, OutputError
from codegemma.records import Turn
from codegemma.runner import Progress, ignore_progress

_ROLES = {"system": "system", "user": "user", "model": "assistant"}
_SHOWN_REASONS = 3


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation and where it is from; `origin["kind"]` says what it is counted under."""

    turns: tuple[Turn, ...]
    origin: Mapping[str, Any]


@dataclass(slots=True)
class Tally:
    """In = kept + dropped. `notes` tell what was left out before it was read."""

    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def spell_line(example: Example) -> str:
    """Spell a conversation as OpenAI, TRL and Ollama do, with its origin beside it.

    >>> spell_line(Example((Turn("user", "2 + 2?"),), {"kind": "sum"}))
    '{"messages": [{"role": "user", "content": "2 + 2?"}], "origin": {"kind": "sum"}}'
    """
    messages = [{"role": _ROLES[turn.role], "content": turn.text} for turn in example.turns]
    return json.dumps({"messages": messages, "origin": dict(example.origin)}, ensure_ascii=False)


def open_guard(paths: Sequence[Path], allow_list: str | None = None) -> ContaminationIndex | None:
    """Prepare the search for benchmarks; none given is no search. An allow list is that of a build.

    Raises:
        InputError: a file that is no benchmark.
    """
    return ContaminationIndex(read_benchmarks(paths).texts, read_allow_list(allow_list)) if paths else None


def write_examples(
    out: Path,
    examples: Iterable[Example | str],
    guard: ContaminationIndex | None = None,
    on_progress: Progress = ignore_progress,
    total: int | None = None,
    tally: Tally | None = None,
) -> Tally:
    """Write what can be learned from, once each; of `total` conversations, where so many are wanted and no more.

    Raises:
        InputError: there is no conversation among them.
        OutputError: the file cannot be written.
    """
    tally = tally or Tally()
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            seen: set[int] = set()
            for example in examples:
                reason = example if isinstance(example, str) else _find_reason(example, guard, seen)
                if reason is not None:
                    tally.dropped[reason] += 1
                elif not isinstance(example, str):
                    file.write(spell_line(example) + "\n")
                    tally.kept[example.origin["kind"]] += 1
                on_progress("conversations", tally.kept.total(), total)
                if tally.kept.total() == total:
                    break
            file.flush()
            os.fsync(file.fileno())
        _refuse_nothing(tally)
        temporary.replace(out)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{out}: cannot be written ({reason}); choose another --out or make room") from error
    finally:
        temporary.unlink(missing_ok=True)
    on_progress("conversations", tally.kept.total(), tally.kept.total())
    return tally


def _find_reason(example: Example, guard: ContaminationIndex | None, seen: set[int]) -> str | None:
    fault = find_fault(example.turns)
    if fault is not None:
        return fault
    said = "\0".join(turn.text for turn in example.turns if turn.role != "model")
    asked = xxhash.xxh3_64_intdigest(said.encode())
    if asked in seen:
        return "asked before"
    seen.add(asked)
    if guard is not None and (found := guard.find("\n".join(turn.text for turn in example.turns))):
        return f"in the benchmark {found[0].benchmark}"
    return None


def _refuse_nothing(tally: Tally) -> None:
    if tally.kept:
        return
    reasons = "; ".join(f"{reason}: {count:,}" for reason, count in tally.dropped.most_common(_SHOWN_REASONS))
    raise InputError(f"no conversation to write ({reasons or 'nothing was given'}); nothing was written")
