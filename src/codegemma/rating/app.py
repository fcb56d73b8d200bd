"""The rating page's server: a page, its script, and three doors that speak JSON.

**In**: a campaign and a store of ratings.
**Out**: an ASGI application.
**Not**: the names of systems: no answer of this server holds one. Nothing that a model wrote is sent as markup, and the
page may load nothing from elsewhere and is told so by its headers.
"""

import hmac
import json
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from codegemma.errors import UserError
from codegemma.rating.campaign import Campaign, Item
from codegemma.rating.ratings import RatingStore
from codegemma.serve.app import RefusalError, check_host, check_origin

_MAX_BODY_BYTES = 65_536
_TYPES = {"page.html": "text/html", "page.js": "text/javascript", "page.css": "text/css"}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
Answer = Callable[[Request], Awaitable[Response]]


class RatingApp:
    """One campaign, served."""

    def __init__(self, campaign: Campaign, store: RatingStore, token: str | None = None) -> None:
        """Serve a campaign; with a `token`, to whoever has it, without one to this machine alone."""
        self._campaign, self._store, self._token = campaign, store, token

    def build(self) -> Starlette:
        """Build the application."""
        pages = [Route("/", _make_page("page.html"))]
        pages += [Route(f"/{name}", _make_page(name)) for name in ("page.js", "page.css")]
        doors = [
            Route("/campaign", self._guard(self._tell_campaign)),
            Route("/next", self._guard(self._tell_next)),
            Route("/rate", self._guard(self._rate), methods=["POST"]),
        ]
        return Starlette(routes=[*pages, *doors])

    def _guard(self, answer: Answer) -> Answer:
        """Refuse other origins, names that were made to mean this machine, and whoever lacks the token."""

        async def guarded(request: Request) -> Response:
            try:
                self._check(request)
                return await answer(request)
            except RefusalError as refusal:
                return _reply({"error": str(refusal)}, refusal.status)
            except UserError as error:
                return _reply({"error": str(error)}, 400)

        return guarded

    def _check(self, request: Request) -> None:
        check_origin(request)
        if self._token is None:
            check_host(request)
            return
        sent = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(sent.encode("utf-8", "replace"), self._token.encode()):
            raise RefusalError(401, "the address that was printed at the start has a key behind #: use it whole")

    async def _tell_campaign(self, _: Request) -> Response:
        campaign = self._campaign
        questions = [{"id": q.question_id, "text": q.text, "labels": q.labels} for q in campaign.questions]
        told = {"title": campaign.title, "instructions": campaign.instructions, "questions": questions}
        return _reply({**told, "items": len(campaign.items)})

    async def _tell_next(self, request: Request) -> Response:
        rater = request.query_params.get("rater", "")
        item = await run_in_threadpool(self._store.find_next, rater)
        return _reply({**self._show(rater, item), "done": self._store.count(rater), "items": len(self._campaign.items)})

    def _show(self, rater: str, item: Item | None) -> dict[str, Any]:
        if item is None:
            return {"item": None}
        answers = item.answers[::-1] if self._campaign.is_swapped(rater, item) else item.answers
        return {"item": item.item_id, "prompt": item.prompt, "answers": answers}

    async def _rate(self, request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY_BYTES:
                return _reply({"error": f"longer than {_MAX_BODY_BYTES} bytes"}, 413)
        try:
            plain = json.loads(body)
            rater, item, values = str(plain["rater"]), str(plain["item"]), dict(plain["values"])
            comment, seconds = str(plain.get("comment", "")), float(plain.get("seconds", 0))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return _reply({"error": "wanted an object with rater, item and values"}, 400)
        await run_in_threadpool(self._store.add, rater, item, values, comment, seconds)
        return _reply({"done": self._store.count(rater)})


def _make_page(name: str) -> Answer:
    content = resources.files(__package__).joinpath(name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, media_type=_TYPES[name], headers=_HEADERS)

    return answer


def _reply(plain: dict[str, Any], status: int = 200) -> Response:
    # In ASCII: what a model wrote may hold halves of characters, which UTF-8 cannot spell.
    return Response(json.dumps(plain), status, media_type="application/json", headers=_HEADERS)
