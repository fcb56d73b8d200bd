"""Counts what the server does, for Prometheus; texts never, names of keys never.

**In**: reports of answers, events of editors, replies.
**Out**: the text of `/metrics`.
**Not**: anything that leaves the machine by itself.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from codegemma.serve.asks import Report

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_REMEMBERED_ANSWERS = 10_000


@dataclass(slots=True)
class _Known:
    """What is known of an answer."""

    chars: int
    language: str
    accepted: int = 0
    is_retained: bool = False


class Metrics:
    """One server's counters, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.replies = Counter("codegemma_replies", "Replies by route and status.", ["route", "status"], registry=r)
        self.reply_s = Histogram(
            "codegemma_reply_seconds", "From a request to its reply.", ["route"], buckets=_SECONDS, registry=r
        )
        self.tokens = Counter("codegemma_tokens", "Tokens by kind.", ["kind"], registry=r)
        self.stops = Counter("codegemma_stops", "Answers by why they ended.", ["reason"], registry=r)
        self.sources = Counter("codegemma_answers", "Answers by source: engine, typed, shared.", ["source"], registry=r)
        self.first_token_s = Histogram(
            "codegemma_first_token_seconds", "Queue and prompt.", buckets=_SECONDS, registry=r
        )
        self.queue_s = Histogram("codegemma_queue_seconds", "Wait for the engine.", buckets=_SECONDS, registry=r)
        self.events = Counter(
            "codegemma_completions", "What editors did with completions.", ["event", "language"], registry=r
        )
        self.accepted_chars = Counter(
            "codegemma_accepted_characters", "Characters of accepted completions.", registry=r
        )
        self.retained_chars = Counter(
            "codegemma_retained_characters", "Of those, characters that stood half a minute later.", registry=r
        )
        self._answers: OrderedDict[str, _Known] = OrderedDict()

    def count_answer(self, report: Report, chars: int, language: str) -> None:
        """Count a finished answer, and remember its size in case an editor tells what became of it."""
        self.sources.labels(report.source).inc()
        self.stops.labels(report.stop_reason.value).inc()
        for kind in ("cached", "evaluated", "new", "drafted", "accepted"):
            self.tokens.labels(kind).inc(getattr(report, f"{kind}_tokens"))
        if report.source == "engine":
            self.first_token_s.observe(report.queue_s + report.prompt_s)
            self.queue_s.observe(report.queue_s)
        self._answers[report.answer_id] = _Known(chars, language)
        while len(self._answers) > _REMEMBERED_ANSWERS:
            self._answers.popitem(last=False)

    def count_event(self, event: str, answer_id: str, chars: int | None = None) -> bool:
        """Count what an editor did with an answer; false where the answer is unknown.

        `chars` are the characters accepted so far, or that stood later; `None` means all. An answer that is accepted
        piece by piece is one that was accepted, and retained where most of what was accepted stood.
        """
        known = self._answers.get(answer_id, _Known(0, ""))
        if event == "accepted":
            is_news = not known.accepted
            news = (known.chars if chars is None else min(chars, known.chars)) - known.accepted
            known.accepted += max(news, 0)
            self.accepted_chars.inc(max(news, 0))
        elif event == "retained":
            stood = known.accepted if chars is None else min(chars, known.accepted)
            is_news = 2 * stood >= known.accepted and not known.is_retained
            self.retained_chars.inc(0 if known.is_retained else stood)
            known.is_retained = True
        else:
            is_news = True
        if is_news:
            self.events.labels(event, known.language).inc()
        return answer_id in self._answers

    def count_reply(self, route: str, status: int, started: float) -> None:
        """Count a reply of a route that began at `started` on the clock of `time.perf_counter`."""
        self.replies.labels(route, str(status)).inc()
        self.reply_s.labels(route).observe(time.perf_counter() - started)

    def render(self) -> bytes:
        """Spell all counters in Prometheus' text format."""
        return generate_latest(self.registry)
