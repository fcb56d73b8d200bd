"""The route of text-generation-inference that llm-ls uses: `/generate`.

**In**: a prompt spelled by a template, or plain.
**Out**: `generated_text`, or `error`.
**Not**: the rest of that server's routes; its streaming is no part of what llm-ls asks for.
"""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from codegemma.serve.api.door import Door, Exchange, collect, reply
from codegemma.serve.api.fields import anything, either, flag, listing, number, table, text, whole
from codegemma.serve.api.prompts import read_prompt, read_sampling, read_stop
from codegemma.serve.api.why import spell_why
from codegemma.serve.asks import InfillAsk, Wishes

_PARAMETERS = {
    "max_new_tokens": whole(0),
    "temperature": number(0, 100),
    "do_sample": flag(),
    "top_k": whole(0),
    "top_p": number(0, 1),
    "repetition_penalty": number(0, 10),
    "frequency_penalty": number(-2, 2),
    "seed": whole(0, 2**64 - 1),
    "stop": listing(text(), 512),
    "return_full_text": flag(),
}
_FIELDS = {
    "inputs": text(),
    "parameters": table(_PARAMETERS | {"parameters": table(_PARAMETERS)}),
    "model": either(text(), anything()),
}
_MAX_NEW_TOKENS = 60


def shape_error(status: int, message: str) -> Mapping[str, Any]:
    """Spell an error as text-generation-inference does."""
    return {"error": message, "error_type": "validation"}


async def generate(exchange: Exchange) -> Response:
    """Continue or fill in. A defect of llm-ls puts the parameters one level too deep."""
    parameters = exchange.fields.get("parameters", {})
    parameters = parameters.get("parameters", parameters)
    is_sampled = parameters.get("do_sample", "temperature" in parameters)
    asked = {
        "temperature": parameters.get("temperature", 1.0) if is_sampled else 0.0,
        "repeat_penalty": parameters.get("repetition_penalty"),
        "repeat_last_n": -1,
    }
    wishes = Wishes(
        max_new_tokens=parameters.get("max_new_tokens", _MAX_NEW_TOKENS),
        sampling=read_sampling(parameters | asked, 0.0),
        stop=read_stop(parameters),
        model=model if isinstance(model := exchange.fields.get("model", ""), str) else "",
    )
    prompt = exchange.fields["inputs"]
    ask = read_prompt(exchange.service, prompt, wishes)
    service, caller = exchange.service, exchange.caller
    pieces = service.infill(ask, caller) if isinstance(ask, InfillAsk) else service.plain(ask, caller)
    answer = (await collect(exchange, pieces))[0]
    whole_text = prompt + answer.text if parameters.get("return_full_text") else answer.text
    return reply({"generated_text": whole_text, "why": spell_why(answer.last)})


DOORS = (
    Door("POST", "/generate", generate, "Continue or fill in.", shape_error, _FIELDS, ("inputs",), statuses=(200, 400)),
)
