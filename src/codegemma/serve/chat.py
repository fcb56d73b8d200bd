"""Turns a client's messages into the prompt of a conversation, in the one chat format of training.

**In**: messages as OpenAI, Ollama and llama.cpp spell them.
**Out**: prompt ids; what is too long loses its oldest turns.
**Not**: tools and pictures: their parts are left out of the text.

Gemma knows no system role and its turns alternate: system messages open the first turn of the user, and turns of one
side that follow each other become one.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from codegemma.serve.api.fields import anything, either, listing, table, text
from codegemma.serve.attached import refuse_secrets
from codegemma.text.chat_format import Turn
from codegemma.text.chat_window import fit_chat

if TYPE_CHECKING:
    from codegemma.serve.service import Service

TURNS = listing(
    table(
        {
            "role": text(enum=["system", "developer", "user", "assistant", "model", "tool", "function"]),
            "content": either(text(), listing(table({"type": text(), "text": text()}), 1000), anything()),
        },
        required=("role",),
    ),
    2000,
    minItems=1,
)
_LEAST_ANSWER_SHARE = 0.25


def make_chat_ids(
    service: "Service", messages: Sequence[Mapping[str, Any]], max_new_tokens: int
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Spell the prompt, and say what was dropped to make it fit.

    Raises:
        InputError: nothing of the user's to answer, or a message quotes what looks like a secret.
    """
    refuse_secrets(messages, read_content)
    window = service.max_context_tokens
    room = window - min(max_new_tokens, int(window * _LEAST_ANSWER_SHARE))
    fitted = fit_chat(service.tokenizer, merge_turns(messages), room)
    return fitted.ids, fitted.tell()


def merge_turns(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """Make turns that alternate, the user's first and last.

    >>> merge_turns([{"role": "user", "content": "Hi"}, {"role": "user", "content": "there"}])
    [Turn(role='user', text='Hi\\n\\nthere')]
    """
    system = [read_content(m) for m in messages if m["role"] in ("system", "developer")]
    turns: list[Turn] = []
    for message in messages:
        if message["role"] in ("system", "developer"):
            continue
        role: Literal["user", "model"] = "model" if message["role"] in ("assistant", "model") else "user"
        said = read_content(message)
        if turns and turns[-1].role == role:
            turns[-1] = Turn(role, f"{turns[-1].text}\n\n{said}")
        elif turns or role == "user":
            turns.append(Turn(role, said))
    if turns and turns[-1].role == "model":
        turns.append(Turn("user", ""))
    if not turns:
        turns.append(Turn("user", ""))
    opening = "\n\n".join(filter(None, system))
    return [Turn("system", opening), *turns] if opening else turns


def read_content(message: Mapping[str, Any]) -> str:
    """Read a message's text, whether it is one string or a list of parts.

    >>> read_content({"content": [{"type": "text", "text": "a"}, {"type": "image_url"}]})
    'a'
    """
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "\n".join(p["text"] for p in parts if isinstance(p, dict) and isinstance(p.get("text"), str))
