"""Remembers the newest requests for the status page: layout and timings, and no text unless that was asked for.

**In**: reports of answers.
**Out**: rows for `/status`; nothing at all where prompts are not to be shown.
**Not**: texts. Paths of files are shown, so this is off unless the server was started to show it.
"""

import dataclasses
from collections import deque
from typing import Any

from codegemma.serve.asks import Report

_REMEMBERED = 50


class RecentRequests:
    """The newest reports, newest first."""

    def __init__(self, is_on: bool) -> None:
        self.is_on = is_on
        self._reports: deque[tuple[str, Report]] = deque(maxlen=_REMEMBERED)

    def add(self, route: str, report: Report) -> None:
        """Remember a report, if that is on."""
        if self.is_on:
            self._reports.appendleft((route, report))

    def list(self) -> list[dict[str, Any]]:
        """List them as plain data."""
        return [{"route": route, **dataclasses.asdict(report)} for route, report in self._reports]
