"""Runs a program of a conversation in the sandbox, for the web page and whoever else shows code with its output.

**In**: `/v1/run` with `language`, `code` and perhaps `stdin`.
**Out**: what it wrote, how it ended, how long it took.
**Not**: a service for programs: limits suit somebody who waits, and few may wait at once.
"""

from starlette.responses import Response

from codegemma.errors import InputError
from codegemma.sandbox.snippets import spell_ending
from codegemma.serve.api.door import Door, Exchange, reply, wait_while_there
from codegemma.serve.api.fields import text
from codegemma.serve.api.openai import shape_error
from codegemma.serve.bench import BusyError

_FIELDS = {"language": text(), "code": text(), "stdin": text()}


async def run(exchange: Exchange) -> Response:
    """Run a text."""
    fields = exchange.fields
    if not exchange.service.tutor.policy.may_run:
        raise InputError("no programs are run here: the teacher's policy; attempts at exercises are")
    work = exchange.service.bench.run(fields["code"], fields["language"], fields.get("stdin", ""))
    try:
        ran = await wait_while_there(exchange.request, work)
    except BusyError as error:
        return reply(shape_error(429, str(error)), 429)
    return reply(
        {
            "stdout": ran.stdout.decode("utf-8", "replace"),
            "stderr": ran.stderr.decode("utf-8", "replace"),
            "ended": ran.ended.value,
            "exit_code": ran.exit_code,
            "seconds": round(ran.seconds, 3),
            "ending": spell_ending(ran),
        }
    )


DOORS = (
    Door("POST", "/v1/run", run, "Run a program in the sandbox.", shape_error, _FIELDS, ("language", "code"),
         statuses=(200, 400)),
)  # fmt: skip
