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
# Code has 3 to 5 characters a token; looking twice as far is enough, and a whole file costs milliseconds to encode.
_REACH_CHARS_PER_TOKEN = 8


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
    prefix, prefix_tokens = _measure_reach(request.prefix, tokenizer, room, is_end=True)
    suffix, suffix_tokens = _measure_reach(request.suffix, tokenizer, room, is_end=False)
    if prefix_tokens + suffix_tokens > room:
        suffix_room = min(suffix_tokens, max(int(room * _SUFFIX_SHARE), room - prefix_tokens))
        suffix = keep_start(suffix, tokenizer, suffix_room)
        prefix = keep_end(prefix, tokenizer, room - len(tokenizer.encode(suffix)))
        return dataclasses.replace(request, prefix=prefix, suffix=suffix, neighbors=())
    room -= prefix_tokens + suffix_tokens
    kept = []
    for neighbor in request.neighbors:
        room -= len(encode_path(tokenizer, neighbor.path)) + len(tokenizer.encode(neighbor.text)) + 1
        if room < 0:
            break
        kept.append(neighbor)
    return dataclasses.replace(request, prefix=prefix, suffix=suffix, neighbors=tuple(kept))


def _measure_reach(text: str, tokenizer: Tokenizer, room: int, *, is_end: bool) -> tuple[str, int]:
    """Count the tokens of a text; of one far longer than the room, only the part near the cursor is looked at."""
    reach = room * _REACH_CHARS_PER_TOKEN
    if len(text) > reach:
        near = text[-reach:] if is_end else text[:reach]
        tokens = len(tokenizer.encode(near))
        if tokens > room:
            return near, tokens
    return text, len(tokenizer.encode(text))


def keep_end(text: str, tokenizer: Tokenizer, max_tokens: int) -> str:
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
    is_near = bool(start) and 0 < line_start <= len(kept) // 2
    return _prefer(kept[line_start:], kept, tokenizer, max_tokens) if is_near else kept


def keep_start(text: str, tokenizer: Tokenizer, max_tokens: int) -> str:
    """Keep the longest start of `text` within `max_tokens`, up to a line end where the kept half has one."""
    ids = tokenizer.encode(text)
    end = len(text)
    while len(ids) > max_tokens:
        end = min(int(tokenizer.find_starts(ids)[max_tokens]), end - 1)
        ids = tokenizer.encode(text[:end])
    kept = text[:end]
    line_end = kept.rfind("\n") + 1
    is_near = end < len(text) and line_end > len(kept) // 2
    return _prefer(kept[:line_end], kept, tokenizer, max_tokens) if is_near else kept


def _prefer(lines: str, kept: str, tokenizer: Tokenizer, max_tokens: int) -> str:
    """Take whole lines, unless they need more tokens than the text they are part of: cut apart, a token may be two."""
    return lines if len(tokenizer.encode(lines)) <= max_tokens else kept
