"""Has the line at a cursor written, hole by hole.

**In**: an examination; requests by the names of their holes.
**Out**: the first line of each answer; or, where a question has no answer, no line at all and the reason.
**Not**: scoring (`scoring.py`).
"""

from collections.abc import Mapping

from codegemma.evals.examination import Examination
from codegemma.evals.samples import spell_lacking
from codegemma.evals.scoring import read_first_line
from codegemma.records import Request


def write_lines(exam: Examination, requests: Mapping[str, Request | None], stage: str) -> tuple[dict[str, str], str]:
    """Write greedily; a hole without a request, which no window holds, gets an empty line.

    Without all answers there is no line of any, so that no figure stands for a part of the holes: the second value is
    why.
    """
    asked = {name: request for name, request in requests.items() if request is not None}
    answers, lacking = exam.ask(asked, stage)
    if lacking:
        return {}, f"no score, {spell_lacking(lacking, len(requests))}"
    return {name: read_first_line(answers[name].text) if name in answers else "" for name in requests}, ""
