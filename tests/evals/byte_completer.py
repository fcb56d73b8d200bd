"""A real completer without an accelerator: the n-gram model behind a tokenizer whose ids are bytes."""

from collections.abc import Generator, Sequence

import numpy as np
from jaxtyping import Float64

from codegemma.evals.ngram import NgramModel
from codegemma.records import Completion, CompletionDelta, Request, Score, StopReason
from codegemma.text.control_tokens import (
    CONTROL_TOKENS,
    FILE_SEPARATOR_ID,
    FIM_MIDDLE_ID,
    FIM_PREFIX_ID,
    FIM_SUFFIX_ID,
    RESERVED_IDS,
    STOP_IDS,
    UNK_ID,
)
from codegemma.text.infill_format import format_prompt
from codegemma.text.tokenizer import Tokenizer

NEWLINE = ord("\n")


def make_byte_tokenizer() -> Tokenizer:
    """A Gemma tokenizer without pieces: every byte is a token, so each text has one spelling only."""
    names = [CONTROL_TOKENS.get(i, f"<unused{i}>") for i in range(RESERVED_IDS)]
    names += [f"<0x{byte:02X}>" for byte in range(256)]
    model = {
        "type": "BPE",
        "byte_fallback": True,
        "unk_token": CONTROL_TOKENS[UNK_ID],
        "vocab": {name: i for i, name in enumerate(names)},
        "merges": [],
    }
    parts: dict[str, object] = {"added_tokens": [], "normalizer": None, "pre_tokenizer": None, "decoder": None}
    return Tokenizer({"version": "1.0", **parts, "model": model})


class ByteCompleter:
    """Continues the prefix with the n-gram's most probable bytes; the end of a line is where it stops."""

    def __init__(self, model: NgramModel, end_id: int = FILE_SEPARATOR_ID) -> None:
        self.model = model
        self.end_id = end_id
        self.tokenizer = make_byte_tokenizer()
        self._known: dict[bytes, Float64[np.ndarray, 256]] = {}

    def complete(self, request: Request) -> Generator[CompletionDelta, None, None]:
        completion = self.complete_all([request])[0]
        yield CompletionDelta(completion.text, completion.token_ids, completion.stop_reason)

    def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        return [self._write(request) for request in requests]

    def score(self, items: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Score]:
        return [self._rate(prompt, continuation) for prompt, continuation in items]

    def _write(self, request: Request) -> Completion:
        prompt = self._spell(request)
        context = self._read_text(prompt)
        start = len(context)
        reason = StopReason.MAX_NEW_TOKENS
        while len(context) - start < request.max_new_tokens:
            byte = int(self._distribution(context).argmax())
            if byte == NEWLINE:
                reason = StopReason.CONTROL_TOKEN
                break
            context += bytes([byte])
        written = context[start:]
        ids = tuple(byte + RESERVED_IDS for byte in written)
        return Completion(written.decode(errors="replace"), ids, reason, len(prompt))

    def _rate(self, prompt: Sequence[int], continuation: Sequence[int]) -> Score:
        context = self._read_text(prompt)
        logprobs, argmax_ids = [], []
        for token_id in continuation:
            byte = NEWLINE if token_id in STOP_IDS else token_id - RESERVED_IDS
            distribution = self._distribution(context)
            logprobs.append(np.log(distribution[byte]))
            best = int(distribution.argmax())
            argmax_ids.append(self.end_id if best == NEWLINE else best + RESERVED_IDS)
            context += bytes([byte])
        return Score(np.array(logprobs, dtype=np.float32), np.array(argmax_ids, dtype=np.int32))

    def _distribution(self, context: bytes) -> Float64[np.ndarray, "256"]:
        # Padded as at a file's start, so that equal keys have equal answers.
        tail = (bytes(self.model.order) + context)[-self.model.order :]
        if tail not in self._known:
            self._known[tail] = self.model.distribution(tail)
        return self._known[tail]

    def _spell(self, request: Request) -> list[int]:
        return format_prompt(
            self.tokenizer, prefix=request.prefix, suffix=request.suffix, mode=request.mode, path=request.path
        )

    @staticmethod
    def _read_text(prompt: Sequence[int]) -> bytes:
        """Read what stands before the cursor: the prefix part, in SPM what follows the middle's sentinel."""
        ids = list(prompt)
        if FIM_PREFIX_ID not in ids:  # a text without a hole, after <bos>
            return bytes(i - RESERVED_IDS for i in ids[1:])
        start = ids.index(FIM_PREFIX_ID) + 1
        end = next(i for i in range(start, len(ids)) if ids[i] in (FIM_SUFFIX_ID, FIM_MIDDLE_ID))
        before = ids[start:end]
        after = ids[ids.index(FIM_MIDDLE_ID) + 1 :]
        return bytes(i - RESERVED_IDS for i in before + after)
