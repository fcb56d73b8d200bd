"""Prints at the end how many requests the fuzzer tried, and how many of them got an answer that no document tells."""

from typing import Any

FUZZED = "fuzzed"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, ())
        if report.when == "call" and any(name == FUZZED for name, _ in report.user_properties)
    ]
    if reports:
        statuses = [status for report in reports for name, status in report.user_properties if name == FUZZED]
        failures = sum(report.outcome == "failed" for report in reports)
        told = ", ".join(f"{statuses.count(status)} x {status}" for status in sorted(set(statuses)))
        terminalreporter.section("fuzzing by the OpenAPI document")
        terminalreporter.write_line(f"{len(statuses)} requests to {len(reports)} routes, {failures} failures: {told}")
