"""What several doors read alike: prompts as text, ids or an infill template; sampling; how far an answer may reach.

**In**: checked fields.
**Out**: asks for the service.
**Not**: fields that one protocol alone has.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from codegemma.records import Extent, Sampling, StopRules
from codegemma.serve.api.fields import FieldError, Schema, mend, number, refused, whole
from codegemma.serve.asks import InfillAsk, PlainAsk, Wishes
from codegemma.serve.dialects import read_dialect
from codegemma.text.languages import detect_language

if TYPE_CHECKING:
    from codegemma.serve.service import Service

# How a client may say how tokens are chosen, in the names of llama.cpp, which others took over.
SAMPLING: Mapping[str, Schema] = {
    "temperature": number(0, 100),
    "top_k": whole(-1),
    "top_p": number(0, 1),
    "min_p": number(0, 1),
    "repeat_penalty": number(0, 10),
    "presence_penalty": number(-100, 100),
    "frequency_penalty": number(-100, 100),
    "repeat_last_n": whole(-1),
    "seed": whole(-(2**63), 2**64 - 1),
}
# What would change an answer and is not done here, in the names of OpenAI, llama.cpp and Ollama.
_NO_FORM = "answers are not held to a form here"
FORMS: Mapping[str, Schema] = {
    "response_format": refused(_NO_FORM, {"type": "text"}),
    "grammar": refused(_NO_FORM, ""),
    "json_schema": refused(_NO_FORM, "", {}),
}
# llama.cpp's own: a penalty over a whole file would forbid its line ends.
_PENALIZED_TOKENS = 64
_MAX_BIASES = 4096
_MAX_BIAS = 1e6
# As clients of llama.cpp, -1 among them, ask for any seed.
_NO_SEED = 2**32 - 1
# At least so much of the window is the answer's, where it asks for it.
_LEAST_ANSWER_SHARE = 0.125


def read_prompt(service: "Service", prompt: str | Sequence[int | str], wishes: Wishes) -> InfillAsk | PlainAsk:
    """Read a prompt: an infill template of any dialect is taken apart, ids are taken as they are, text stays text."""
    if isinstance(prompt, str):
        infill = read_dialect(prompt)
        if infill is not None:
            return make_infill(infill.prefix, infill.suffix, infill.path, wishes, context=infill.context)
        return make_plain(service, [service.bos_id, *service.encode(prompt)], wishes)
    if prompt and all(isinstance(part, str) for part in prompt):
        if len(prompt) > 1:
            raise FieldError("prompt", f"is a list of {len(prompt)} texts; send one at a time")
        return read_prompt(service, str(prompt[0]), wishes)
    ids: list[int] = []
    for part in prompt:
        ids += service.encode(part) if isinstance(part, str) else [part]
    return make_plain(service, ids or [service.bos_id], wishes)


def make_infill(prefix: str, suffix: str, path: str | None, wishes: Wishes, **more: Any) -> InfillAsk:
    """Make an ask whose answer reaches as far as the place of the cursor suggests."""
    language = detect_language(path, "") if path else None
    more.setdefault("language", language.name if language else None)
    return InfillAsk(prefix, suffix, path, wishes=limit_extent(wishes, suffix), **more)


def limit_extent(wishes: Wishes, suffix: str) -> Wishes:
    """In the middle of a line an answer ends with the line; else where what encloses the cursor ends."""
    rest = suffix.partition("\n")[0]
    has_words = any(char.isalnum() for char in rest)
    return replace(wishes, stop=replace(wishes.stop, extent=Extent.LINE if has_words else Extent.SCOPE))


def make_plain(service: "Service", ids: Sequence[int], wishes: Wishes) -> PlainAsk:
    """Make an ask to continue ids; what is too long loses its start, all but the first id."""
    window = service.max_context_tokens
    room = window - min(wishes.max_new_tokens, int(window * _LEAST_ANSWER_SHARE))
    if len(ids) <= room:
        return PlainAsk(tuple(ids), wishes)
    dropped = len(ids) - room
    return PlainAsk((ids[0], *ids[dropped + 1 :]), wishes, (f"{dropped} tokens at the prompt's start",))


def read_sampling(fields: Mapping[str, Any], temperature: float, top_k: int = 0, top_p: float = 1.0) -> Sampling:
    """Read how tokens are chosen; the other arguments hold where the client does not say."""
    temperature, top_k = fields.get("temperature", temperature), fields.get("top_k", top_k)
    last = fields.get("repeat_last_n", _PENALIZED_TOKENS)
    return Sampling(
        temperature=temperature,
        top_k=top_k if top_k > 0 else None,
        top_p=fields.get("top_p", top_p) or None,
        min_p=fields.get("min_p") or None,
        repetition_penalty=fields.get("repeat_penalty") or 1.0,
        presence_penalty=fields.get("presence_penalty", 0.0),
        frequency_penalty=fields.get("frequency_penalty", 0.0),
        penalized_tokens=last if last >= 0 else None,
        seed=read_seed(fields.get("seed"), temperature),
        logit_bias=read_bias(fields.get("logit_bias")),
    )


def read_stop(fields: Mapping[str, Any]) -> StopRules:
    """Read one string or several that end an answer; an empty one ends nothing."""
    stop = fields.get("stop", ())
    return StopRules(tuple(s for s in ([stop] if isinstance(stop, str) else stop) if s))


def read_bias(value: Any) -> tuple[tuple[int, float], ...]:
    """Read `[[id, bias], ...]` of llama.cpp or `{"id": bias}` of OpenAI; `false` forbids the id.

    Raises:
        FieldError: something else.
    """
    if value is None:
        return ()
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, list) or len(pairs) > _MAX_BIASES:
        raise FieldError("logit_bias", f"wanted at most {_MAX_BIASES} pairs of a token id and a number")
    return tuple(_read_pair(pair) for pair in pairs)


def _read_pair(pair: Any) -> tuple[int, float]:
    try:
        token_id, bias = pair
        token_id, bias = int(token_id), -_MAX_BIAS if bias is False else float(bias)
    except (TypeError, ValueError, OverflowError) as error:
        raise FieldError("logit_bias", "wanted pairs of a token id and a number") from error
    if not 0 <= token_id < 2**31 or not -_MAX_BIAS <= bias <= _MAX_BIAS:
        raise FieldError("logit_bias", f"an id or a number is out of range: {mend(str(pair))[:60]}")
    return token_id, bias


def read_seed(value: int | None, temperature: float) -> int:
    """Take the client's seed, of which 32 bits count as in llama.cpp; without one, every sampled answer gets its own.

    >>> read_seed(7, 1.0), read_seed(2**40 + 7, 1.0), read_seed(-1, 0.0)
    (7, 7, 0)
    """
    seed = _NO_SEED if value is None else value % 2**32
    if seed != _NO_SEED:
        return seed
    return secrets.randbits(31) if temperature > 0 else 0
