"""Prints at the end which clients were driven, and of those that were not, why."""

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    rows = []
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            if report.nodeid.startswith("tests/clients/") and (outcome != "passed" or report.when == "call"):
                test = report.nodeid.removeprefix("tests/clients/")
                reason = report.longrepr[2] if outcome == "skipped" and isinstance(report.longrepr, tuple) else ""
                rows.append((test, outcome, reason.removeprefix("Skipped: ")))
    if rows:
        width = max(len(test) for test, _, _ in rows)
        terminalreporter.section("clients")
        for test, outcome, reason in sorted(rows):
            terminalreporter.write_line(f"{test:{width}}  {outcome:7}  {reason}".rstrip())
