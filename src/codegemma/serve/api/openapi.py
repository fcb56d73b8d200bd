"""Describes every door to programs, from the same declarations that check its fields.

**In**: doors.
**Out**: an OpenAPI 3.1 document.
**Not**: the shapes of replies in detail: they are each protocol's own.
"""

from collections.abc import Iterable
from typing import Any

import codegemma
from codegemma.serve.api.door import Door

_REASONS = {
    200: "Done.", 400: "A field is wrong.", 401: "No valid key.", 403: "Refused.", 404: "There is none.",
    408: "The body came too slowly.",
    413: "The body is too long.", 429: "Too many requests.", 503: "The model is being loaded.",
}  # fmt: skip
_ALWAYS = (401, 403, 408, 413, 429, 503)


def describe_doors(doors: Iterable[Door]) -> dict[str, Any]:
    """Describe all doors."""
    paths: dict[str, dict[str, Any]] = {}
    for door in doors:
        path = door.path.replace(":path", "")
        paths.setdefault(path, {})[door.method.lower()] = _describe(door, path)
    return {
        "openapi": "3.1.0",
        "info": {"title": "codegemma", "version": codegemma.__version__, "description": "Completion in the editor."},
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
    }


def _describe(door: Door, path: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": door.summary,
        "operationId": f"{door.method.lower()}{path.replace('/', '_').replace('{', '').replace('}', '')}",
        "responses": {str(status): {"description": _REASONS[status]} for status in sorted({*door.statuses, *_ALWAYS})},
    }
    if "{name}" in path:
        described["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
    if door.fields:
        schema: dict[str, Any] = {"type": "object", "properties": dict(door.fields)}
        if door.required:
            schema["required"] = list(door.required)
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return described
