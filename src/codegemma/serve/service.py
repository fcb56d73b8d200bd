"""Answers asks of every door with one engine: session, context, engine, memory, counting.

**In**: a `Generator`; asks and who sends them.
**Out**: `Piece`s, streamed; closing the iterator early cancels what nobody else waits for.
**Not**: wire protocols (`api/`), keys and limits (`app.py`), or how the engine computes.
"""

import asyncio
import contextlib
import math
import re
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import fields, replace

import numpy as np

from codegemma.records import Generation, Generator, Priority, StopRules
from codegemma.serve.adapter_folders import AdapterFolders
from codegemma.serve.ahead import READ_AFTER_S, WRITE_AFTER_S, Ahead
from codegemma.serve.answers import Answer, Answers, make_answer
from codegemma.serve.asks import Caller, InfillAsk, Piece, PlainAsk, Report, Wishes
from codegemma.serve.bench import Bench
from codegemma.serve.choices import ServeChoices
from codegemma.serve.context import ContextSource
from codegemma.serve.metrics import Metrics
from codegemma.serve.recent import RecentRequests
from codegemma.serve.secret_files import has_secret_name
from codegemma.serve.session import Layout, Session
from codegemma.serve.sessions import Sessions
from codegemma.serve.speed import SpeedMeter
from codegemma.serve.supervision import keep_to_line, screen
from codegemma.serve.trim import make_rules
from codegemma.serve.tutor.ledger import Ledger
from codegemma.serve.tutor.policy import Policy
from codegemma.serve.tutor.tutor import Tutor
from codegemma.serve.writing import Writer
from codegemma.text.control_tokens import BOS_ID, CONTROL_TOKENS, RESERVED_IDS

_WARM_TOKENS = 32
_WATCH_S = 0.2
_CONTROL_IDS = {spelled: token_id for token_id, spelled in CONTROL_TOKENS.items()}
_CONTROLS = re.compile("(" + "|".join(map(re.escape, _CONTROL_IDS)) + ")")


class Service:
    """One model behind every door."""

    def __init__(
        self,
        generator: Generator,
        choices: ServeChoices | None = None,
        context: ContextSource | None = None,
        adapters: Sequence[str] = (),
        *,
        bench: Bench | None = None,
        policy: Policy | None = None,
        ledger: Ledger | None = None,
        adapter_folders: AdapterFolders | None = None,
    ) -> None:
        self.generator, self.tokenizer = generator, generator.tokenizer
        self.choices = choices or ServeChoices()
        self.mode = self.choices.mode or generator.infill_modes[0]
        self.model_name, self.adapters = generator.model_name, tuple(adapters)
        self._adapter_folders = adapter_folders or AdapterFolders()
        self.metrics, self.recent = Metrics(), RecentRequests(self.choices.shows_prompts)
        self._speed = SpeedMeter()
        self._sessions = Sessions(self.tokenizer, self.mode, self.choices)
        self._answers: weakref.WeakKeyDictionary[Session, Answers] = weakref.WeakKeyDictionary()
        self._context = context or ContextSource()
        self._writer = Writer(generator, self._speed)
        self._ahead = Ahead(self._writer)
        self.bench = bench or Bench()
        self.tutor = Tutor(policy, self.bench, ledger)

    @property
    def max_context_tokens(self) -> int:
        """The model's window."""
        return self.generator.max_context_tokens

    @property
    def speed_tokens_per_s(self) -> float | None:
        """How fast prompts are read, once it was measured."""
        return self._speed.tokens_per_s

    def name_model(self, wishes: Wishes) -> str:
        """Name what answers: an adapter if it was asked for, else the base, whatever was asked for."""
        return wishes.model if wishes.model in self.adapters else self.model_name

    def encode(self, text: str) -> list[int]:
        """Encode text as text: a control token spelled in it stays text."""
        ids: list[int] = self.tokenizer.encode(text).tolist()
        return ids

    @property
    def bos_id(self) -> int:
        """What every prompt begins with."""
        return BOS_ID

    @property
    def running(self) -> int:
        """How many generations are under way."""
        return self._writer.running

    def encode_with_controls(self, text: str) -> list[int]:
        """Encode text in which control tokens are meant where they are spelled; only for who asks for that."""
        ids: list[int] = []
        for part in _CONTROLS.split(text):
            ids += [_CONTROL_IDS[part]] if part in _CONTROL_IDS else self.encode(part)
        return ids

    async def warm_up(self) -> None:
        """Read a short prompt of which the engine has kept nothing, so that its speed is known; but nobody waits for it
        whose request is under way, and none is read where a request has told the speed."""
        while self._writer.running:
            await asyncio.sleep(_WATCH_S)
        if self._speed.tokens_per_s is not None:
            return
        drawn = np.random.default_rng().integers(RESERVED_IDS, self.generator.tokenizer.vocab_size, _WARM_TOKENS)
        ids = (BOS_ID, *drawn.tolist())
        generation = Generation(ids, max_new_tokens=1, priority=Priority.BATCH)  # who asks already does not wait
        async for _ in self._writer.write(generation, StopRules(), Report()):
            pass

    def close(self) -> None:
        """Cancel what runs and close the engine."""
        self._ahead.cancel()
        self._writer.close()
        self._context.close()
        self.bench.close()
        self.tutor.ledger.close()
        self.generator.close()

    async def infill(self, ask: InfillAsk, caller: Caller) -> AsyncGenerator[Piece, None]:
        """Complete at a cursor.

        Raises:
            InputError: the engine refused the request; nothing was yielded then.
        """
        self._ahead.cancel()
        if ask.path and has_secret_name(ask.path):
            yield self._refuse_secret(ask.wishes)
            return
        path = self._context.spell_path(ask.path) if ask.path else None
        wishes = self._choose_adapter(self._limit(ask.wishes), ask.path)
        ask = replace(ask, path=path, wishes=keep_to_line(wishes, self.tutor.policy))
        session = self._sessions.find(ask, caller)
        layout = self._lay_out(session, ask)
        answers = self._answers.setdefault(session, Answers())
        # Of what is remembered no log-probabilities are known.
        may_repeat = ask.wishes.max_new_tokens > 0 and ask.wishes.top_logprobs is None
        known = answers.find(layout.text, ask.suffix, ask.wishes) if may_repeat else None
        if known is not None:
            pieces = self._repeat(known, layout, ask.wishes)
        else:
            pieces = self._write_infill(ask, session, layout, answers)
        counted = self._count(pieces, ask.language or "", caller)
        async with contextlib.aclosing(counted):
            async for piece in counted:
                yield piece
        if known is None and self.choices.prepares_next and ask.wishes.max_new_tokens and ask.wishes.choices == 1:
            idle = replace(ask.wishes, priority=Priority.BATCH, prompt_budget_s=None, new_budget_s=None)
            later = replace(ask, wishes=idle)
            self._ahead.start(
                (WRITE_AFTER_S, lambda: self._write_ahead(later, session, answers)),
                (READ_AFTER_S, lambda: self._read_wider(later, session)),
            )

    async def plain(self, ask: PlainAsk, caller: Caller) -> AsyncGenerator[Piece, None]:
        """Continue a prompt that is spelled already, a conversation's among them, as a teacher's policy lets.

        Raises:
            InputError: the engine or the policy refused the request; nothing was yielded then.
        """
        pieces = screen(ask, self.tutor, lambda allowed: self.write_unchecked(allowed, caller))
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def write_unchecked(self, ask: PlainAsk, caller: Caller) -> AsyncGenerator[Piece, None]:
        """Continue a prompt for whoever keeps to the policy by other means."""
        self._ahead.cancel()
        wishes = self._limit(ask.wishes)
        rules = StopRules(strings=wishes.stop.strings)
        generation = self._make_generation(ask.prompt_ids, wishes, rules, f"{caller.owner}#plain")
        parts = (("prompt", len(ask.prompt_ids)),)
        base = Report(dropped=ask.dropped, parts=parts, model=self.name_model(wishes))
        pieces = self._count(self._writer.write(generation, rules, base), "", caller)
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                yield piece

    def _refuse_secret(self, wishes: Wishes) -> Piece:
        name, place = self._writer.name_answer(), "a file that looks like a secret"
        return Piece("", report=Report(answer_id=name, source="none", place=place, model=self.name_model(wishes)))

    def _choose_adapter(self, wishes: Wishes, path: str | None) -> Wishes:
        """Take the adapter that was asked for, else that of the file's folder."""
        found = None if wishes.model in self.adapters or not path else self._adapter_folders.find(path)
        return wishes if found is None else replace(wishes, model=found)

    def _limit(self, wishes: Wishes) -> Wishes:
        return replace(wishes, max_new_tokens=min(wishes.max_new_tokens, self.choices.max_new_tokens))

    def _lay_out(self, session: Session, ask: InfillAsk) -> Layout:
        wishes = ask.wishes
        budgets = self._speed.choose_budgets(
            self.choices, self.max_context_tokens, wishes.max_new_tokens, wishes.prompt_budget_s
        )
        return session.lay_out(ask, lambda: self._context.choose(ask), budgets)

    def _make_generation(
        self, prompt_ids: tuple[int, ...], wishes: Wishes, rules: StopRules, session: str, healing: bytes = b""
    ) -> Generation:
        wished = Generation(**{field.name: getattr(wishes, field.name) for field in fields(Generation)})
        return replace(
            wished,
            prompt_ids=prompt_ids,
            stop=rules,
            healing=healing if wishes.max_new_tokens else b"",
            session=session,
            adapter=wishes.model if wishes.model in self.adapters else None,
        )

    def _make_infill(self, ask: InfillAsk, session: Session, layout: Layout) -> tuple[Generation, StopRules]:
        wishes = ask.wishes
        rules = make_rules(replace(wishes.stop, prefix=layout.text, suffix=ask.suffix, language=ask.language))
        return self._make_generation(layout.prompt_ids, wishes, rules, session.read_as, layout.healing), rules

    async def _write_infill(
        self, ask: InfillAsk, session: Session, layout: Layout, answers: Answers
    ) -> AsyncGenerator[Piece, None]:
        generation, rules = self._make_infill(ask, session, layout)
        base = Report(
            place=layout.place,
            mode=layout.mode.value,
            parts=layout.parts,
            neighbors=layout.neighbors,
            dropped=layout.dropped,
            model=self.name_model(ask.wishes),
        )
        pieces: list[Piece] = []
        stream = self._writer.write(generation, rules, base, ask.wishes.least_indent)
        async with contextlib.aclosing(stream):
            async for piece in stream:
                pieces.append(piece)
                if piece.report is not None and sum(p.report is not None for p in pieces) == ask.wishes.choices:
                    _remember(pieces, ask, session, layout, answers)
                yield piece

    async def _repeat(self, known: Answer, layout: Layout, wishes: Wishes) -> AsyncGenerator[Piece, None]:
        """Tell what is left of a known answer."""
        for choice in range(wishes.choices):
            index = choice % len(known.completions)
            text, tokens = known.completions[index], len(layout.prompt_ids)
            ids = tuple(self.encode(text))
            report = Report(
                tokens, cached_tokens=tokens, new_tokens=len(ids), answer_id=self._writer.name_answer(),
                stop_reason=known.stop_reasons[index], source="typed", place=layout.place, mode=layout.mode.value,
                parts=layout.parts, neighbors=layout.neighbors, dropped=layout.dropped, model=self.name_model(wishes),
            )  # fmt: skip
            yield Piece(text, choice, ids, report=report)

    async def _count(
        self, pieces: AsyncGenerator[Piece, None], language: str, caller: Caller
    ) -> AsyncGenerator[Piece, None]:
        """Count what passes."""
        chars: Counter[int] = Counter()
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                chars[piece.choice] += len(piece.text)
                if piece.report is not None:
                    self.metrics.count_answer(piece.report, chars[piece.choice], language)
                    self.recent.add(caller.route, piece.report)
                yield piece

    async def _write_ahead(self, ask: InfillAsk, session: Session, answers: Answers) -> None:
        """Write what would come after the newest answer is accepted."""
        imagined = session.imagine_accepted()
        if imagined is None:
            return
        fork, text = imagined
        accepted = replace(ask, prefix=text)
        layout = self._lay_out(fork, accepted)
        generation, rules = self._make_infill(accepted, fork, layout)
        stream = self._writer.write(generation, rules, Report(), ask.wishes.least_indent)
        written = ""
        async with contextlib.aclosing(stream):
            async for piece in stream:
                written += piece.text
                if piece.report is not None and piece.report.is_whole:
                    reasons = [piece.report.stop_reason]
                    known = make_answer(layout.text, ask.suffix, ask.wishes, [written], reasons, is_prepared=True)
                    answers.add(known)

    async def _read_wider(self, ask: InfillAsk, session: Session) -> None:
        """Read what a deadline left out of the prompt, so that the next keystroke finds it."""
        wishes = ask.wishes
        budgets = self._speed.choose_budgets(
            self.choices, self.max_context_tokens, wishes.max_new_tokens, deadline_s=math.inf
        )
        widened = session.widen(ask, lambda: self._context.choose(ask), budgets)
        if widened is None:
            return
        fork, layout = widened
        wishes = replace(wishes, max_new_tokens=0, top_logprobs=None)
        generation = self._make_generation(layout.prompt_ids, wishes, StopRules(), fork.read_as)
        stream = self._writer.write(generation, StopRules(), Report())
        async with contextlib.aclosing(stream):
            async for piece in stream:
                if piece.report is not None and piece.report.is_whole:
                    session.adopt(fork)


def _remember(pieces: Sequence[Piece], ask: InfillAsk, session: Session, layout: Layout, answers: Answers) -> None:
    """Keep an answer for who types it, and its ids for who accepts it."""
    texts: dict[int, str] = {}
    for piece in pieces:
        texts[piece.choice] = texts.get(piece.choice, "") + piece.text
    reports: Mapping[int, Report] = {p.choice: p.report for p in pieces if p.report is not None}
    session.note_written(layout, texts.get(0, ""), [i for p in pieces if p.choice == 0 for i in p.token_ids])
    whole = [choice for choice, report in sorted(reports.items()) if report.is_whole and texts[choice]]
    completions = tuple(dict.fromkeys(texts[choice] for choice in whole))
    reasons = {texts[choice]: reports[choice].stop_reason for choice in reversed(whole)}
    answers.add(make_answer(layout.text, ask.suffix, ask.wishes, completions, [reasons[text] for text in completions]))
