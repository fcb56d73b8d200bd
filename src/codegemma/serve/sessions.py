"""Keeps the sessions of everybody who types and finds the one that an ask goes on with; clients name none.

**In**: asks, and who sends them.
**Out**: a `Session`, found by its path or by the text that both have, among the same owner's only.
**Not**: prompts (`session.py`).
"""

import itertools

from codegemma.records import InfillMode
from codegemma.serve.asks import Caller, InfillAsk
from codegemma.serve.choices import ServeChoices
from codegemma.serve.session import Session
from codegemma.text.tokenizer import Tokenizer


class Sessions:
    """The newest sessions, at most `choices.max_sessions`."""

    def __init__(self, tokenizer: Tokenizer, mode: InfillMode, choices: ServeChoices) -> None:
        self._tokenizer, self._mode, self._choices = tokenizer, mode, choices
        self._sessions: dict[str, Session] = {}  # the least recently used first
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, ask: InfillAsk, caller: Caller) -> Session:
        """Find the session that an ask goes on with, the most recent first, or begin one."""
        for session in reversed(self._sessions.values()):
            if session.owner == caller.owner and session.matches(ask):
                break
        else:
            session = self._begin(ask, caller)
        self._sessions.pop(session.name, None)
        self._sessions[session.name] = session
        return session

    def _begin(self, ask: InfillAsk, caller: Caller) -> Session:
        named = (s for s in reversed(self._sessions.values()) if s.owner == caller.owner)
        session = next((s for s in named if ask.path and s.path == ask.path), None)
        if session is not None:
            return session
        while len(self._sessions) >= self._choices.max_sessions:
            del self._sessions[next(iter(self._sessions))]
        return Session(
            f"{caller.owner}#{next(self._numbers)}", caller.owner, self._tokenizer, self._mode, self._choices
        )
