"""Makes one call of llama.cpp and reads what it streams.

**In**: answers under way that this call goes on with: one, or the fresh choices that share the reading of a prompt.
**Out**: their next ids, handed to them; why the call was cancelled, if it was.
**Not**: what comes after (`llama_run.py`).

The callback's `True` cancels: at a token, or between two parts of a prompt. llama.cpp tells ids with the text that
they complete, so that the first bytes of a character come without theirs; they are spelled from the text, or asked for
again where the call ended within a character.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32

from codegemma.engine.answer import Answer
from codegemma.errors import InputError
from codegemma.records import Generation, Priority, StopReason, TokenLogprob
from codegemma.text.control_tokens import RESERVED_IDS
from codegemma.text.tokenizer import Tokenizer

Event = Mapping[str, Any]
Call = Callable[[dict[str, Any], Callable[[Event], bool] | None], Any]

# Added to the logits of the ids that healing allows: beyond what any model writes, within what float32 tells apart.
_ALLOWED_BIAS: Final = 1000.0
# More are a grammar's: of Gemma's vocabulary half begins with a blank, and llama.cpp takes in and tells again every
# bias of a call, for a second where the grammar takes a twentieth.
MAX_BIASED_IDS: Final = 4096
_FORBIDDEN: Final = [[token_id, -_ALLOWED_BIAS] for token_id in range(RESERVED_IDS)]
_SAMPLED_LEG_TOKENS: Final = 8
_SEEDS: Final = 2**32 - 1  # the last one asks llama.cpp for a seed of its own
_ENDS_OF_BOTH: Final = (StopReason.MAX_NEW_TOKENS, StopReason.CONTEXT_FULL)
_NEXT_SEED: Final = 0x9E3779B1  # far from the seeds of other choices


@runtime_checkable
class Runner(Protocol):
    """What a call tells and asks while it runs: `llama_run.Run`."""

    generation: Generation
    is_cancelled: bool

    def gives_way(self) -> bool: ...  # noqa: D102
    def find_expired(self) -> StopReason | None: ...  # noqa: D102
    def end_open(self, reason: StopReason) -> None: ...  # noqa: D102
    def tell(self, answer: Answer) -> None: ...  # noqa: D102
    def note_read(self, cached: int, evaluated: int) -> None: ...  # noqa: D102
    def note_token(self) -> None: ...  # noqa: D102
    def note_drafts(self, answer: Answer, drafted: int, accepted: int) -> None: ...  # noqa: D102


class Leg:
    """One call."""

    def __init__(self, run: Runner, answers: Sequence[Answer], slot: int, call: Call, tokenizer: Tokenizer) -> None:
        """Choose what this call writes."""
        self.is_out_of_turn = False
        self._run, self._answers, self._slot, self._call, self._tokenizer = run, answers, slot, call, tokenizer
        self._generation, self._first = run.generation, answers[0]
        self._allowed = self._first.healing.find_allowed() if self._first.healing else None
        is_sampled = self._generation.sampling.temperature > 0
        # Short calls give way between two of them.
        self._is_short = self._allowed is not None or (
            is_sampled and self._generation.priority is not Priority.KEYSTROKE
        )
        self._counts = [0] * len(answers)
        self._written = [0] * len(answers)
        self._drafts = [(0, 0)] * len(answers)
        self._is_stopped = False
        self._error: str | None = None

    def run(self) -> None:
        """Call, and read until the call is over.

        Raises:
            InputError: llama.cpp refused it.
        """
        body = self._spell()
        self._call(body, self._hear)
        if self._error is not None:
            raise InputError(f"llama.cpp refused the prompt: {self._error}")
        if self._is_stopped or all(answer.stop_reason is not None for answer in self._answers):
            return
        if self._generation.max_new_tokens == 0:
            self._run.end_open(StopReason.MAX_NEW_TOKENS)
        for index, answer in enumerate(self._answers):
            if answer.stop_reason is None and self._written[index] > self._counts[index]:
                self._ask_again(index, body)
        if not any(self._written):
            raise RuntimeError("llama.cpp wrote nothing and gave no reason")

    def _spell(self) -> dict[str, Any]:
        left = self._first.max_tokens - len(self._first.ids)
        count = 1 if self._allowed is not None else min(left, _SAMPLED_LEG_TOKENS) if self._is_short else left
        body = {
            "prompt": [*self._generation.prompt_ids, *self._first.ids],
            "n_predict": count,
            "id_slot": self._slot,
            "n_cmpl": len(self._answers),
            "cache_prompt": True,
            "stream": True,
            "verbose": True,  # ids come along with the text
            "timings_per_token": True,
            "return_progress": True,
            **spell_sampling(self._generation, self._pick_seed()),
        }
        if self._first.healing and self._allowed is not None:
            body |= _spell_allowed(self._allowed, self._first.healing.owed, body["logit_bias"])
        return body

    def _pick_seed(self) -> int:
        """Seeds depend on the choice and on how much of it is written, not on how it came to be written."""
        seed = self._generation.sampling.seed + self._first.choice + len(self._first.ids) * _NEXT_SEED
        return seed % _SEEDS

    def _hear(self, event: Event) -> bool:
        """Read one event; true cancels the call."""
        if "error" in event:
            self._error = str(event["error"].get("message", event["error"]))
            return True
        raw, timings = event.get("__verbose") or {}, event.get("timings") or {}
        if "cache_n" in timings:
            self._run.note_read(int(timings["cache_n"]), int(timings["prompt_n"]))
        if raw.get("tokens_predicted"):
            self._count_drafts(int(raw.get("index", 0)), timings)
            self._read(event, raw)
        self._is_stopped = self._must_stop()
        return self._is_stopped

    def _count_drafts(self, index: int, timings: Event) -> None:
        """Tell what was drafted since the last token."""
        drafts = int(timings.get("draft_n", 0)), int(timings.get("draft_n_accepted", 0))
        before, self._drafts[index] = self._drafts[index], drafts
        self._run.note_drafts(self._answers[index], drafts[0] - before[0], drafts[1] - before[1])

    def _read(self, event: Event, raw: Event) -> None:
        index, ids = int(raw.get("index", 0)), list(raw.get("tokens") or ())
        self._written[index] = int(raw["tokens_predicted"])
        missing = self._written[index] - self._counts[index] - len(ids)
        if not ids:
            return
        if missing > 0:
            ids = [*self._recover(str(raw.get("content", "")), ids, missing), *ids]
        self._run.note_token()
        top = self._generation.top_logprobs
        self._take(index, ids, {} if top is None else _read_logprobs(event, top))

    def _take(self, index: int, ids: Sequence[int], logprobs: Mapping[int, TokenLogprob]) -> None:
        answer = self._answers[index]
        self._counts[index] = self._written[index]
        if self._generation.max_new_tokens == 0:
            return
        for token_id in ids:
            if answer.stop_reason is None:
                answer.take(token_id, logprobs.get(token_id))
        self._run.tell(answer)

    def _recover(self, content: str, ids: Sequence[int], missing: int) -> list[int]:
        """Spell the ids of a character's first bytes, whose last byte is here."""
        head = content.encode("utf-8", errors="replace").removesuffix(self._tokenizer.decode_bytes(ids))
        of_byte = _list_byte_ids(self._tokenizer)
        if len(head) == missing and all(byte in of_byte for byte in head):
            return [of_byte[byte] for byte in head]
        spelled: list[int] = self._tokenizer.encode(head.decode("utf-8", errors="replace")).tolist()
        return spelled

    def _ask_again(self, index: int, body: dict[str, Any]) -> None:
        """Ask for the ids of a call that ended within a character; the answer is the same, and quick."""
        again = body | {
            "stream": False, "return_progress": False, "return_tokens": True, "n_cmpl": 1,
            "n_predict": self._written[index], "seed": (int(body["seed"]) + index) % _SEEDS,
        }  # fmt: skip
        ids = self._call(again, None)["__verbose"]["tokens"]
        self._run.note_token()
        self._take(index, ids[self._counts[index] :], {})

    def _must_stop(self) -> bool:
        run = self._run
        if run.is_cancelled:
            return True
        if all(answer.stop_reason is not None for answer in self._answers):
            # What llama.cpp ends itself it ends with a count of its drafts.
            return any(answer.stop_reason not in _ENDS_OF_BOTH for answer in self._answers)
        if reason := run.find_expired():
            run.end_open(reason)
            return True
        if run.gives_way() and not (self._is_short and any(self._written)):
            self.is_out_of_turn = True
        return self.is_out_of_turn


def _spell_allowed(allowed: Int32[np.ndarray, " n"], owed: bytes, bias: list[list[Any]]) -> dict[str, Any]:
    """Spell that the next token begins what is owed or goes beyond it. A grammar takes control tokens for the text
    that they are written in; bytes within a character are none's, and few go on from them."""
    if len(allowed) <= MAX_BIASED_IDS:
        return {"logit_bias": bias + [[token_id, _ALLOWED_BIAS] for token_id in allowed.tolist()]}
    text = "".join(f"\\U{ord(char):08X}" for char in owed.decode())
    return {"grammar": f'root ::= "{text}" [^\\x00]*', "logit_bias": bias + _FORBIDDEN}


def spell_sampling(generation: Generation, seed: int) -> dict[str, Any]:
    """Spell how tokens are chosen, in our order whatever llama.cpp's own is."""
    sampling = generation.sampling
    samplers = ["penalties"] if sampling.has_penalties else []
    known = len(generation.prompt_ids) + generation.max_new_tokens
    spelled: dict[str, Any] = {
        "seed": seed,
        "logit_bias": [[token_id, added] for token_id, added in sampling.logit_bias],
        "repeat_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repeat_last_n": known if sampling.penalized_tokens is None else min(sampling.penalized_tokens, known),
    }
    if generation.top_logprobs is not None:
        spelled["n_probs"] = max(generation.top_logprobs, 1)
    if sampling.temperature <= 0:
        return spelled | {"samplers": [*samplers, "top_k"], "top_k": 1, "temperature": 0.0}
    return spelled | {
        "samplers": [*samplers, "temperature", "top_k", "top_p", "min_p"],
        "temperature": sampling.temperature,
        "top_k": sampling.top_k or 0,
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
        "min_p": sampling.min_p or 0.0,
    }


def _read_logprobs(event: Event, count: int) -> dict[int, TokenLogprob]:
    content = ((event.get("choices") or [{}])[0].get("logprobs") or {}).get("content") or []
    found = {}
    for entry in content:
        rivals = tuple((int(rival["id"]), float(rival["logprob"])) for rival in entry.get("top_logprobs") or ())
        found[int(entry["id"])] = TokenLogprob(int(entry["id"]), float(entry["logprob"]), rivals[:count])
    return found


@lru_cache(maxsize=4)
def _list_byte_ids(tokenizer: Tokenizer) -> dict[int, int]:
    names = {f"<0x{byte:02X}>": byte for byte in range(0x80, 0x100)}
    return {names[piece]: i for i, piece in enumerate(tokenizer.pieces) if piece in names}
