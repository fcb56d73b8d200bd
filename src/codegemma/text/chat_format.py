"""Gemma's chat format, spelled once for training and for serving.

**In**: the turns of a conversation, the last one the user's (a prompt) or the model's (a training example).
**Out**: ids, with a weight for each in training: the model's words and the end of its turn count, the rest does not.
**Not**: windows, and not tokens in what people write: control tokens spelled in a message stay text.

Layout (Gemma report 2403.08295, table 4); Gemma knows no system role, so a system turn opens the first user turn:

    <bos><start_of_turn>user⏎ ... <end_of_turn>⏎<start_of_turn>model⏎ ... <end_of_turn>⏎
"""

import json
from collections.abc import Sequence
from typing import get_args

import numpy as np
from jaxtyping import Float32

from codegemma.errors import InputError
from codegemma.records import Role, Turn
from codegemma.text.control_tokens import BOS_ID, END_OF_TURN_ID, START_OF_TURN_ID
from codegemma.text.infill_format import Ids
from codegemma.text.tokenizer import Tokenizer

__all__ = ["CHAT_TEMPLATE", "Role", "Turn", "format_chat", "format_chat_prompt"]

# The same layout for programs that render templates (transformers, llama.cpp); `assistant` is their word for the model.
# White space around a message is removed, as Google's own template does.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% set first = 0 %}{% set opening = '' %}"
    "{% if messages and messages[0]['role'] == 'system' %}"
    "{% set first = 1 %}{% set opening = messages[0]['content'] | trim + '\\n\\n' %}"
    "{% endif %}"
    "{% for message in messages[first:] %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) or message['role'] == 'system' %}"
    "{{ raise_exception('turns must alternate: user, assistant, user, ...; a system turn comes first') }}"
    "{% endif %}"
    "{{ '<start_of_turn>' + ('user' if message['role'] == 'user' else 'model') + '\\n' }}"
    "{{ ((opening if loop.first else '') + message['content']) | trim }}"
    "{{ '<end_of_turn>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)


def format_chat_prompt(tokenizer: Tokenizer, turns: Sequence[Turn]) -> list[int]:
    """Spell the prompt after which the model answers the last turn, which is the user's.

    Raises:
        InputError: no turn, turns that do not alternate, the last one the model's, or half a character.
    """
    merged = _merge_system(turns)
    if merged[-1].role != "user":
        raise InputError("the last turn is the model's; a prompt ends with a turn of the user")
    ids: list[int] = np.concatenate([_spell(tokenizer, merged)[0], *_open_turn(tokenizer, "model")]).tolist()
    return ids


def format_chat(tokenizer: Tokenizer, turns: Sequence[Turn]) -> tuple[Ids, Float32[np.ndarray, " n"]]:
    """Spell a whole conversation and weigh each token's prediction: 1 in what the model must learn to say, else 0.

    The ids up to an answer are those of the prompt that asks for it.

    Raises:
        InputError: no turn, turns that do not alternate, or half a character.
    """
    return _spell(tokenizer, _merge_system(turns))


def store_turns(turns: Sequence[Turn]) -> str:
    """Spell turns as the text of a file in a pack.

    >>> load_turns(store_turns([Turn("user", "Hi")]))
    (Turn(role='user', text='Hi'),)
    """
    return json.dumps([list(turn) for turn in turns], ensure_ascii=False, separators=(",", ":"))


def load_turns(text: str) -> tuple[Turn, ...]:
    """Read turns that `store_turns` spelled.

    Raises:
        InputError: the text is something else.
    """
    try:
        return tuple(Turn(role, words) for role, words in json.loads(text))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"a conversation's text holds no turns ({error}): {text[:60]!r}; make its pack anew"
        ) from error


def _merge_system(turns: Sequence[Turn]) -> list[Turn]:
    """Put a system turn at the head of the first user turn; refuse what has no place in the layout.

    >>> _merge_system([Turn("system", "Be brief."), Turn("user", "Why?")])
    [Turn(role='user', text='Be brief.\\n\\nWhy?')]
    """
    unknown = [turn.role for turn in turns if turn.role not in get_args(Role)]
    if unknown:
        raise InputError(f"a turn of {unknown[0]!r}; known are {', '.join(get_args(Role))}")
    has_system = bool(turns) and turns[0].role == "system"
    rest = list(turns[1:] if has_system else turns)
    if has_system and rest:
        rest[0] = Turn(rest[0].role, f"{turns[0].text.strip()}\n\n{rest[0].text}")
    if not rest:
        raise InputError("a conversation without a turn of the user; wanted one at least")
    for place, turn in enumerate(rest):
        if turn.role != ("user", "model")[place % 2]:
            raise InputError(
                f"turn {place + 1} is the {turn.role}'s; turns alternate from the user's on, and one system turn at "
                "most stands before them"
            )
    return rest


def _spell(tokenizer: Tokenizer, turns: Sequence[Turn]) -> tuple[Ids, Float32[np.ndarray, " n"]]:
    parts: list[Ids] = [_control(BOS_ID)]
    weights = [0.0]
    line_break = tokenizer.encode("\n")
    for place, (role, text) in enumerate(turns):
        opening = _open_turn(tokenizer, role)
        words = _encode(tokenizer, text.strip(), place)
        parts += *opening, words, _control(END_OF_TURN_ID), line_break
        counts = 1.0 if role == "model" else 0.0
        weights += [0.0] * sum(map(len, opening)) + [counts] * (len(words) + 1) + [0.0] * len(line_break)
    return np.concatenate(parts), np.asarray(weights, dtype=np.float32)


def _open_turn(tokenizer: Tokenizer, role: Role) -> tuple[Ids, Ids]:
    return _control(START_OF_TURN_ID), tokenizer.encode(f"{role}\n")


def _encode(tokenizer: Tokenizer, text: str, place: int) -> Ids:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"turn {place + 1} holds half a character ({error.reason}); send whole UTF-8") from error
    return tokenizer.encode(text)


def _control(token_id: int) -> Ids:
    return np.asarray([token_id], dtype=np.int32)
