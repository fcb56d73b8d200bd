"""Documents stay equal to the editor's, whatever is typed where, in every unit of columns."""

from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serve.conftest import SOURCE
from tests.serve.parrot import Parrot

from codegemma.serve.lsp import Protocol, make_server
from codegemma.serve.open_documents import OpenDocument, OpenDocuments
from codegemma.serve.service import Service
from codegemma.serve.shown import Shown

# Line ends, what Python takes for line ends and editors do not, and characters of one to four bytes.
TEXT = st.text(st.sampled_from("ab é😋\n\r\t\x0b\x0c\x1c\x85\u2028\u2029\ud800"), max_size=30).map(
    lambda text: text.replace("\r", "\r\n") if len(text) % 2 else text
)
PLACE = st.tuples(st.integers(0, 8), st.integers(0, 12))
ENCODINGS = {"utf-16": ("utf-16-le", 2), "utf-8": ("utf-8", 1), "utf-32": ("utf-32-le", 4)}


def find_plainly(text: str, place: tuple[int, int], encoding: str) -> int:
    """Count every character on its own: the reference."""
    line, column, units, codec = place[0], place[1], 0, ENCODINGS[encoding]
    at = 0
    for _ in range(line):
        while at < len(text) and text[at] not in "\r\n":
            at += 1
        if at == len(text):
            return at
        at += 2 if text[at : at + 2] == "\r\n" else 1
    while at < len(text) and text[at] not in "\r\n":
        units += len(text[at].encode(codec[0], "surrogatepass")) // codec[1]
        if units > column:
            return at
        at += 1
    return at


@given(TEXT, st.lists(st.tuples(PLACE, PLACE, TEXT), max_size=4), st.sampled_from(sorted(ENCODINGS)))
def test_a_document_follows_every_change(text, changes, encoding):
    document = OpenDocument("file:///a", "python", text, encoding)
    for start, end, new in changes:
        low, high = sorted((find_plainly(text, start, encoding), find_plainly(text, end, encoding)))
        text = text[:low] + new + text[high:]
        document.change((start, end), new)
        assert document.text == text


@given(TEXT, PLACE, st.sampled_from(sorted(ENCODINGS)))
def test_a_place_leads_to_its_character_and_back(text, place, encoding):
    document = OpenDocument("file:///a", "python", text, encoding)
    offset = document.find_offset(place)
    assert offset == find_plainly(text, place, encoding)
    assert document.find_offset(document.find_place(offset)) == offset


def test_a_change_without_a_span_is_the_whole_text():
    document = OpenDocument("file:///a", "python", "old")
    document.change(None, "new\r\n")
    assert (document.text, document.line_end) == ("new\r\n", "\r\n")


def test_the_document_in_use_is_the_last():
    documents = OpenDocuments()
    for name in "abc":
        documents.open(OpenDocument(name, "python", ""))
    documents.find("a")
    documents.close("b")
    assert [d.uri for d in documents] == ["c", "a"]
    assert documents.find("b") is None


def test_looking_back_at_what_was_accepted_is_no_use_of_its_document(tokenizer):
    server, editor = make_server(lambda _: Service(Parrot(tokenizer, SOURCE)))
    assert isinstance(server.protocol, Protocol)
    documents = server.protocol.documents
    for name in "ab":
        documents.open(OpenDocument(name, "python", "x"))
    with closing(Service(Parrot(tokenizer, SOURCE))) as editor.service:
        editor._check_retained(Shown("answer", "a", 0, "x", "", accepted=1))
        assert b'event="retained"' in editor.service.metrics.render()
    assert [d.uri for d in documents] == ["a", "b"]


@pytest.mark.parametrize("column", [5, 6])
def test_a_column_inside_of_a_character_is_its_start(column):
    assert OpenDocument("a", "python", "x = 😋").find_offset((0, column)) == (4 if column == 5 else 5)
