"""Chooses what of a request fits the model's window: neighbors go first, then the far ends of suffix and prefix.

**In**: a `Request` and a budget in tokens.
**Out**: the same request, shortened; its prompt is never longer than the budget.
**Not**: the order of the prompt (`infill_format`), or which neighbors deserve the room (`serve`).
"""

import dataclasses

from codegemma.errors import InputError
from codegemma.records import Request
from codegemma.text.infill_format import UNIT_OVERHEAD_TOKENS, encode_path
from codegemma.text.tokenizer import Tokenizer

# The text before the cursor decides more than the text after it; a third for the suffix is what editors send.
_SUFFIX_SHARE = 1 / 3


def fit_request(request: Request, tokenizer: Tokenizer, max_prompt_tokens: int) -> Request:
    """Shorten `request` until its prompt has at most `max_prompt_tokens` tokens.

    Neighbors are dropped from the last. The prefix is cut at a line start and the suffix at a line end where one lies
    in the half that is kept, so that the model sees whole lines.

    Raises:
        InputError: the budget cannot even hold the path and the sentinels.
    """
    fixed = 1 + UNIT_OVERHEAD_TOKENS + len(encode_path(tokenizer, request.path))
    room = max_prompt_tokens - fixed
    if room < 2:
        raise InputError(
            f"a window of {max_prompt_tokens} prompt tokens is too small: path and sentinels take {fixed}; "
            "ask for fewer new tokens or shorten the path"
        )
    # A character is at most 4 tokens (bytes); what is certainly out of reach is not encoded at all.
    prefix, suffix = request.prefix[-room * 32 :], request.suffix[: room * 32]
    prefix_tokens, suffix_tokens = len(tokenizer.encode(prefix)), len(tokenizer.encode(suffix))
    if prefix_tokens + suffix_tokens > room:
        suffix_room = min(suffix_tokens, max(int(room * _SUFFIX_SHARE), room - prefix_tokens))
        suffix = _keep_start(suffix, tokenizer, suffix_room)
        prefix = _keep_end(prefix, tokenizer, room - len(tokenizer.encode(suffix)))
        return dataclasses.replace(request, prefix=prefix, suffix=suffix, neighbors=())
    room -= prefix_tokens + suffix_tokens
    kept = []
    for neighbor in request.neighbors:
        room -= len(encode_path(tokenizer, neighbor.path)) + len(tokenizer.encode(neighbor.text)) + 1
        if room < 0:
            break
        kept.append(neighbor)
    return dataclasses.replace(request, prefix=prefix, suffix=suffix, neighbors=tuple(kept))


def _keep_end(text: str, tokenizer: Tokenizer, max_tokens: int) -> str:
    """Keep the longest end of `text` within `max_tokens`, from a line start where the kept half has one."""
    ids = tokenizer.encode(text)
    start = 0
    while len(ids) > max_tokens:
        # Cutting changes how the text beside the cut is spelled, so cut and encode until it fits.
        starts = tokenizer.find_starts(ids)
        step = int(starts[len(ids) - max_tokens]) if max_tokens else len(text) - start
        start += max(step, 1)
        ids = tokenizer.encode(text[start:])
    kept = text[start:]
    line_start = kept.find("\n") + 1
    return kept[line_start:] if start and 0 < line_start <= len(kept) // 2 else kept


def _keep_start(text: str, tokenizer: Tokenizer, max_tokens: int) -> str:
    """Keep the longest start of `text` within `max_tokens`, up to a line end where the kept half has one."""
    ids = tokenizer.encode(text)
    end = len(text)
    while len(ids) > max_tokens:
        end = min(int(tokenizer.find_starts(ids)[max_tokens]), end - 1)
        ids = tokenizer.encode(text[:end])
    kept = text[:end]
    line_end = kept.rfind("\n") + 1
    return kept[:line_end] if end < len(text) and line_end > len(kept) // 2 else kept
