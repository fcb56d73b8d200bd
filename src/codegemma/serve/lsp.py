"""Speaks LSP with an editor over a pipe: inline completion (3.18) for ghost text, and completion for menus.

**In**: a pipe; what opens the service once the editor has told its folder: in this process, or a server's.
**Out**: completions, each with a command by which the editor tells that it was accepted; none until the model is there.
**Not**: prompts and models (`service.py`, `remote_service.py`). Of a completion that is accepted word by word LSP says
nothing: the changes of its document tell it (`shown.py`).

In 3.18 an editor counts kinds of triggers from 1, in the proposal before it from 0; both are taken.
"""

import asyncio
import contextlib
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import cattrs
from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol, default_converter, lsp_method
from pygls.uris import to_fs_path

import codegemma
from codegemma.errors import UserError
from codegemma.records import Neighbor
from codegemma.serve.api.fields import mend
from codegemma.serve.api.prompts import make_infill
from codegemma.serve.api.why import spell_why
from codegemma.serve.aside import run_aside
from codegemma.serve.asks import Caller, InfillAsk, Piece, Report, Wishes
from codegemma.serve.open_documents import OpenDocument, OpenDocuments, Place
from codegemma.serve.shown import Shown
from codegemma.text.languages import find_language

ACCEPTED, STATUS = "codegemma.accepted", "codegemma.status"
_CALLER = Caller(host="editor", route="lsp")
# Who types does not wait; who asks by a key does.
_TYPING = Wishes(new_budget_s=1.5)
_ASKING = Wishes(new_budget_s=10.0)
_MAX_NEIGHBORS = 12
_REMEMBERED = 64
_RETAINED_AFTER_S = 30.0


class Counting(Interface):
    """Who counts what an editor does: `Metrics`, or a server's."""

    def count_event(self, event: str, answer_id: str, chars: int | None = None) -> bool: ...  # noqa: D102
    def render(self) -> bytes: ...  # noqa: D102


class Answering(Interface):
    """Who answers an editor: `Service` or `RemoteService`."""

    model_name: str

    @property
    def metrics(self) -> Counting: ...  # noqa: D102
    async def warm_up(self) -> None: ...  # noqa: D102
    def infill(self, ask: InfillAsk, caller: Caller) -> AsyncGenerator[Piece, None]: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


OpenService = Callable[[Path | None], Answering]


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a completion goes: text to put in the place of a range, and what stands around it."""

    document: OpenDocument
    range: types.Range
    given: str
    prefix: str
    suffix: str


class Protocol(LanguageServerProtocol):
    """LSP with documents of our own."""

    def __init__(self, server: Any, converter: cattrs.Converter) -> None:
        self.documents = OpenDocuments()
        self.on_change: Callable[[str, int, int, str], None] = lambda *_: None
        super().__init__(server, converter)

    @lsp_method(types.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(self, params: types.DidOpenTextDocumentParams) -> None:
        """Take a document that was opened."""
        item = params.text_document
        encoding = str(getattr(self.workspace.position_encoding, "value", self.workspace.position_encoding))
        self.documents.open(OpenDocument(item.uri, str(item.language_id), item.text, encoding))

    @lsp_method(types.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(self, params: types.DidChangeTextDocumentParams) -> None:
        """Follow what was typed."""
        document = self.documents.find(params.text_document.uri)
        if document is None:
            return
        for change in params.content_changes:
            span = getattr(change, "range", None)
            start, removed = document.change(span and (_read_place(span.start), _read_place(span.end)), change.text)
            self.on_change(document.uri, start, removed, change.text)

    @lsp_method(types.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(self, params: types.DidCloseTextDocumentParams) -> None:
        """Forget a document that was closed."""
        self.documents.close(params.text_document.uri)


class Editor:
    """The editor at the other end of the pipe, and the service that answers it."""

    def __init__(self, open_service: OpenService, protocol: Protocol, retained_after_s: float) -> None:
        self._open_service, self._protocol, self._retained_after_s = open_service, protocol, retained_after_s
        self.service: Answering | None = None
        self.failure = ""
        self._why: dict[str, Any] = {}
        self._shown: OrderedDict[str, Shown] = OrderedDict()  # the last one is what the editor shows
        protocol.on_change = self.follow
        self.is_loading = self.wants_snippets = False
        self._loading: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to open the model, for the folder that the editor has told."""
        self.is_loading = True
        self._loading = asyncio.create_task(self._load())

    async def complete(self, uri: str, position: types.Position, wishes: Wishes, chosen: Any = None) -> "_Told | None":
        """Complete at a position; `chosen` is what a menu would insert there."""
        document = self._protocol.documents.find(uri)
        if document is None or self.service is None:
            return None
        spot = _find_spot(document, position, chosen)
        try:
            text, report = await self._write(self.service, spot, self._make_ask(spot, wishes))
        except UserError as error:  # a server that is gone comes back perhaps
            self.failure = str(error)
            return None
        self.failure = ""
        if report is not None:
            self._why = spell_why(report)
        if not text or report is None:
            return None
        text = spot.given + _end_lines(text, document.line_end)
        self.service.metrics.count_event("shown", report.answer_id)
        self._shown[report.answer_id] = _note_shown(report.answer_id, spot, text)
        while len(self._shown) > _REMEMBERED:
            self._shown.popitem(last=False)
        return _Told(text, spot, types.Command("Accepted", ACCEPTED, arguments=[report.answer_id]))

    def accept(self, answer_id: str) -> None:
        """Count a completion that was accepted as a whole, and later how much of it stands."""
        shown = self._shown.pop(answer_id, None)
        if shown is not None:
            is_first, shown.accepted = not shown.accepted, len(shown.text)
            self._note_accepted(shown, is_first=is_first)

    def follow(self, uri: str, start: int, removed: int, inserted: str) -> None:
        """Follow a change of a document: it may accept a part of what is shown there."""
        shown = next(reversed(self._shown.values()), None)
        if shown is None or shown.uri != uri:
            return
        is_first = not shown.accepted
        if shown.follow(start, removed, inserted):
            self._note_accepted(shown, is_first=is_first)

    def _note_accepted(self, shown: Shown, *, is_first: bool) -> None:
        if self.service is None:
            return
        is_whole = shown.accepted == len(shown.text)
        self.service.metrics.count_event("accepted", shown.answer_id, None if is_whole else shown.accepted)
        if is_first:
            asyncio.get_running_loop().call_later(self._retained_after_s, self._check_retained, shown)

    def tell_status(self) -> dict[str, Any]:
        """Say whether the model is there, why the newest answer was as it was, and what was counted."""
        service = self.service
        counted = service.metrics.render().decode() if service else ""
        name = service.model_name if service else ""
        return {
            "ready": service is not None,
            "failure": self.failure,
            "model": name,
            "why": self._why,
            "metrics": counted,
        }

    def close(self) -> None:
        """Close the service."""
        if self.service is not None:
            self.service.close()

    async def _load(self) -> None:
        try:
            service = await run_aside(lambda: self._open_service(self._find_folder()))
            try:
                await service.warm_up()
            finally:
                self.service = service  # a server that is away now is asked again at every keystroke
        except (UserError, MemoryError, OSError) as error:
            self.failure = str(error) or "not enough memory to load the model"
            message = types.ShowMessageParams(types.MessageType.Error, f"codegemma: {self.failure}")
            self._protocol.notify(types.WINDOW_SHOW_MESSAGE, message)
        self.is_loading = False

    def _find_folder(self) -> Path | None:
        """Find the folder whose files explain each other; a home folder is none."""
        workspace = self._protocol.workspace
        uris = [*workspace.folders, *([workspace.root_uri] if workspace.root_uri else [])]
        paths = [Path(path) for path in map(to_fs_path, uris) if path]
        home = Path.home()
        return next((path for path in paths if path.is_dir() and path != home and path not in home.parents), None)

    def _make_ask(self, spot: _Spot, wishes: Wishes) -> InfillAsk:
        others = [d for d in self._protocol.documents if d is not spot.document][-_MAX_NEIGHBORS:]
        context = tuple(Neighbor(_find_path(other.uri) or "", mend(other.text)) for other in others)
        language = find_language(spot.document.language_id)
        more = {"language": language.name} if language else {}
        path = _find_path(spot.document.uri)
        return make_infill(mend(spot.prefix), mend(spot.suffix), path, wishes, context=context, **more)

    async def _write(self, service: Answering, spot: _Spot, ask: InfillAsk) -> tuple[str, Report | None]:
        """Read an answer to its end, or until the document has changed: then nobody waits for it any more."""
        text, report, asked = "", None, spot.document.text
        async with contextlib.aclosing(service.infill(ask, _CALLER)) as pieces:
            async for piece in pieces:
                text, report = text + piece.text, piece.report or report
                if spot.document.text is not asked:
                    return "", None
        return text, report

    def _check_retained(self, shown: Shown) -> None:
        document = self._protocol.documents.look_up(shown.uri)  # half a minute later another one is in use
        if self.service is not None and document is not None:
            standing = shown.count_standing(document.text)
            self.service.metrics.count_event("retained", shown.answer_id, standing)


@dataclass(frozen=True, slots=True)
class _Told:
    """A completion as the editor gets it."""

    text: str
    spot: _Spot
    command: types.Command

    def spell_inline(self) -> types.InlineCompletionItem:
        return types.InlineCompletionItem(self.text, range=self.spot.range, command=self.command)

    def spell_item(self, *, is_snippet: bool) -> types.CompletionItem:
        """Spell it for a menu: with the word that it goes on with, by which editors filter."""
        word = _find_word(self.spot.prefix)
        start = types.Position(self.spot.range.start.line, self.spot.range.start.character - len(word))
        text = word + self.text
        first = text.strip().splitlines()[0] if text.strip() else "↵"
        return types.CompletionItem(
            label=first,
            kind=types.CompletionItemKind.Text,
            detail="codegemma",
            documentation=types.MarkupContent(types.MarkupKind.PlainText, text),
            filter_text=text.partition("\n")[0].rstrip("\r") or first,
            insert_text_format=types.InsertTextFormat.Snippet if is_snippet else types.InsertTextFormat.PlainText,
            insert_text_mode=types.InsertTextMode.AsIs,
            text_edit=types.TextEdit(
                types.Range(start, self.spot.range.end), _escape_snippet(text) if is_snippet else text
            ),
            command=self.command,
        )


def make_converter() -> cattrs.Converter:
    """Make pygls' converter, but take kinds of triggers of either count."""
    converter: cattrs.Converter = default_converter()
    kinds = types.InlineCompletionTriggerKind
    converter.register_structure_hook(kinds, lambda value, _: kinds(value or kinds.Invoked))
    return converter


def make_server(
    open_service: OpenService, retained_after_s: float = _RETAINED_AFTER_S
) -> tuple[LanguageServer, Editor]:
    """Make a server; `start_io` serves until the editor leaves."""
    server = LanguageServer("codegemma", codegemma.__version__, protocol_cls=Protocol, converter_factory=make_converter)
    assert isinstance(server.protocol, Protocol)  # noqa: S101 - it was made on the line before
    editor = Editor(open_service, server.protocol, retained_after_s)

    @server.feature(types.INITIALIZE)
    def meet(params: types.InitializeParams) -> None:
        # Of a plain text it inserts what stands before the first blank, and no more.
        editor.wants_snippets = params.client_info is not None and params.client_info.name == "Neovim"

    @server.feature(types.INITIALIZED)
    def start(_: types.InitializedParams) -> None:
        editor.start()

    @server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
    async def complete_inline(params: types.InlineCompletionParams) -> list[types.InlineCompletionItem]:
        is_asked = params.context.trigger_kind is types.InlineCompletionTriggerKind.Invoked
        wishes, chosen = _ASKING if is_asked else _TYPING, params.context.selected_completion_info
        told = await editor.complete(params.text_document.uri, params.position, wishes, chosen)
        return [told.spell_inline()] if told else []

    @server.feature(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions())
    async def complete(params: types.CompletionParams) -> types.CompletionList:
        told = await editor.complete(params.text_document.uri, params.position, _TYPING)
        items = [told.spell_item(is_snippet=editor.wants_snippets)] if told else []
        return types.CompletionList(is_incomplete=True, items=items)

    @server.command(ACCEPTED)
    def accept(answer_id: str) -> None:
        editor.accept(answer_id)

    @server.command(STATUS)
    def tell_status() -> dict[str, Any]:
        return editor.tell_status()

    return server, editor


def _find_spot(document: OpenDocument, position: types.Position, chosen: Any) -> _Spot:
    """Find where a completion goes. Where a menu is open, it goes on with what the menu would insert."""
    offset = document.find_offset(_read_place(position))
    if chosen is None:
        return _Spot(document, types.Range(position, position), "", document.text[:offset], document.text[offset:])
    start = document.find_offset(_read_place(chosen.range.start))
    end = document.find_offset(_read_place(chosen.range.end))
    return _Spot(document, chosen.range, chosen.text, document.text[:start] + chosen.text, document.text[end:])


def _note_shown(answer_id: str, spot: _Spot, text: str) -> Shown:
    """Note what is shown; what stands in the place of a menu's choice is accepted as a whole or not at all."""
    start = len(spot.prefix) - len(spot.given)
    line = spot.prefix[:start].rpartition("\n")[2]
    return Shown(answer_id, spot.document.uri, start, text, line, is_gone=bool(spot.given))


def _read_place(position: types.Position) -> Place:
    return position.line, position.character


def _find_path(uri: str) -> str | None:
    return to_fs_path(uri) if uri.startswith("file:") else None


def _find_word(prefix: str) -> str:
    """Find the word before the cursor, in ASCII: there a character is a unit in every encoding."""
    start = len(prefix)
    while start and prefix[start - 1].isascii() and (prefix[start - 1].isalnum() or prefix[start - 1] == "_"):
        start -= 1
    return prefix[start:]


def _escape_snippet(text: str) -> str:
    r"""Spell text so that a snippet of it is that text.

    >>> print(_escape_snippet(r"f'{a}\n$'"))
    f'{a\}\\n\$'
    """
    return re.sub(r"[\\$}]", r"\\\g<0>", text)


def _end_lines(text: str, line_end: str) -> str:
    r"""End all lines alike.

    >>> _end_lines("a\nb\r\n", "\r\n")
    'a\r\nb\r\n'
    """
    return text.replace("\r\n", "\n").replace("\n", line_end)
