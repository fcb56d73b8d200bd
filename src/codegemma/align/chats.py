"""Conversations to packs, so that instruction tuning is training: same loader, same mixture, same loop.

**In**: JSON Lines, one conversation a line: `{"messages": [{"role": ..., "content": ...}, ...]}` as OpenAI, TRL and
Ollama spell them, or `{"prompt": ..., "completion": ...}`; a tokenizer and the tokens of a row.
**Out**: a pack for each conversation, of kind `CONVERSATION`; what was dropped, by reason, and how many turns.
**Not**: the chat format (`text/chat_format.py`). A system role that opens a conversation is kept; tools are not known.

A conversation that is longer than a row loses its oldest turns, pair by pair, as it would in serving; the system turn
stays. One whose last pair is still too long is dropped.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from codegemma.errors import InputError
from codegemma.records import Pack, PackedFile, SourceKind, Split
from codegemma.text.chat_format import Role, Turn, format_chat, store_turns
from codegemma.text.tokenizer import Tokenizer

LANGUAGE = "chat"
_ROLES: Mapping[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "human": "user",
    "assistant": "model", "model": "model", "gpt": "model",
}  # fmt: skip


@dataclass(slots=True)
class ChatCount:
    """In = kept + dropped. `oldest_turns` were left out of conversations that were kept."""

    kept: int = 0
    oldest_turns: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def read_chats(path: Path) -> Iterator[tuple[Turn, ...] | str]:
    """Read the conversations of a file, line by line; of a line that holds none, the reason.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            for line in filter(str.strip, file):
                yield read_chat(line)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read as conversations ({error.strerror}); name a file of JSON Lines"
        ) from error


def read_chat(line: str) -> tuple[Turn, ...] | str:
    """Read one conversation, or tell why there is none.

    >>> read_chat('{"prompt": "Double 2.", "completion": "4"}')
    (Turn(role='user', text='Double 2.'), Turn(role='model', text='4'))
    >>> read_chat('{"messages": [{"role": "user", "content": "Hi"}]}')
    'no turn of the model to learn from'
    """
    try:
        record = json.loads(line)
        messages = _list_messages(record)
        turns = tuple(Turn(_ROLES[message["role"]], message["content"]) for message in messages)
    except (ValueError, KeyError, TypeError, RecursionError):
        return "neither messages with role and content nor prompt and completion"
    if not all(isinstance(turn.text, str) for turn in turns):
        return "content that is no text"
    return find_fault(turns) or turns


def _list_messages(record: Any) -> Sequence[Mapping[str, Any]]:
    if "messages" in record:
        messages: Sequence[Mapping[str, Any]] = record["messages"]
        return messages
    return [{"role": "user", "content": record["prompt"]}, {"role": "assistant", "content": record["completion"]}]


def find_fault(turns: Sequence[Turn]) -> str | None:
    """Say why a conversation cannot be learned from; `None` where it can."""
    said = [turn for turn in turns if turn.role != "system"]
    if any(turn.role == "system" for turn in turns[1:]):
        return "a system turn that does not come first"
    if any(turn.role != ("user", "model")[place % 2] for place, turn in enumerate(said)):
        return "turns that do not alternate from the user's on"
    if len(said) < 2:
        return "no turn of the model to learn from"
    if len(said) % 2:
        return "a last turn that nobody answers"
    if not all(turn.text.strip() for turn in said):
        return "an empty turn"
    if any("\ud800" <= sign <= "\udfff" for turn in turns for sign in turn.text):
        return "text that is not UTF-8"
    return None


def pack_chats(
    chats: Iterable[tuple[Turn, ...] | str], name: str, tokenizer: Tokenizer, row_tokens: int, count: ChatCount
) -> Iterator[Pack]:
    """Make a pack of each conversation that fits a row, and keep count of the others."""
    for number, chat in enumerate(chats):
        if isinstance(chat, str):
            count.dropped[chat] += 1
            continue
        turns, left_out = shorten(chat, tokenizer, row_tokens)
        if not turns:
            count.dropped["a last exchange longer than a row"] += 1
            continue
        count.kept += 1
        count.oldest_turns += left_out
        yield make_pack(turns, name, number)


def shorten(turns: Sequence[Turn], tokenizer: Tokenizer, row_tokens: int) -> tuple[tuple[Turn, ...], int]:
    """Leave the oldest exchanges out until the rest fits; no turns where nothing does. Tells how many were left out."""
    head = tuple(turns[:1] if turns[0].role == "system" else ())
    for start in range(len(head), len(turns), 2):
        rest = (*head, *turns[start:])
        if len(format_chat(tokenizer, rest)[0]) <= row_tokens:
            return rest, start - len(head)
    return (), 0


def make_pack(turns: Sequence[Turn], repo: str, number: int) -> Pack:
    """Hold a conversation as a pack, which the loader spells by the chat format."""
    text = store_turns(turns)
    blob = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    none = np.zeros(0, np.int32)
    file = PackedFile(f"{number}.chat", LANGUAGE, text, blob, None, none, none)
    return Pack(f"{repo}:{number}", repo, None, Split.TRAIN, (file,), SourceKind.CONVERSATION)
