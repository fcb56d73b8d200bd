"""Says in every reply why the answer is as it is, and what it is called in events about it.

**In**: a `Report`.
**Out**: the object `why` of a reply, for people and for editors that show it.
**Not**: text of anybody's.
"""

from typing import Any

from codegemma.serve.asks import Report


def spell_why(report: Report) -> dict[str, Any]:
    """Say why an answer is as it is: what ended it, where it came from, what the prompt was made of."""
    return {
        "answer_id": report.answer_id,
        "stop_reason": report.stop_reason.value,
        "source": report.source,
        "cached_tokens": report.cached_tokens,
        "evaluated_tokens": report.evaluated_tokens,
        "queue_ms": round(report.queue_s * 1000, 3),
        "place": report.place,
        "mode": report.mode,
        "parts": dict(report.parts),
        "neighbors": list(report.neighbors),
        "dropped": list(report.dropped),
    }
