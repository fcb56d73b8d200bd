"""A page for people on this machine: what is loaded, how fast it is, and what the last requests were made of.

**In**: the service.
**Out**: one HTML page without any outside resource.
**Not**: texts. The last requests are shown only where the server was started with `--debug-prompts`.
"""

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codegemma.serve.service import Service

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>codegemma</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;margin:2em;max-width:80em}}table{{border-collapse:collapse}}
td,th{{padding:.2em .7em;text-align:left;border-bottom:1px solid #8884}}</style>
<h1>{model}</h1><table>{facts}</table><h2>Last requests</h2>{requests}</html>"""
_COLUMNS = (
    "route", "source", "place", "mode", "prompt_tokens", "cached_tokens", "evaluated_tokens", "new_tokens",
    "stop_reason", "queue_s", "prompt_s", "new_s", "parts", "neighbors", "dropped",
)  # fmt: skip


def render_status(service: "Service") -> str:
    """Render the page."""
    facts = {**service.generator.describe(), "order of the parts": service.mode.value}
    if service.speed_tokens_per_s is not None:
        facts["prompt tokens/s"] = f"{service.speed_tokens_per_s:.0f}"
    rows = "".join(f"<tr><th>{_spell(name)}</th><td>{_spell(value)}</td></tr>" for name, value in facts.items())
    return _PAGE.format(model=_spell(service.model_name), facts=rows, requests=_render_requests(service))


def _render_requests(service: "Service") -> str:
    if not service.recent.is_on:
        return "<p>Not shown; start the server with <code>--debug-prompts</code> to see their layout and timings.</p>"
    head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_spell(request[column])}</td>" for column in _COLUMNS) + "</tr>"
        for request in service.recent.list()
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def _spell(value: object) -> str:
    if isinstance(value, float):
        value = f"{value:.4f}"
    if isinstance(value, (list, tuple)):
        value = ", ".join(f"{v[0]} {v[1]}" if isinstance(v, tuple) else str(v) for v in value)
    return html.escape(str(value))
