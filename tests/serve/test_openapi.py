"""A fuzzer reads the OpenAPI document and tries what it says, and what it does not say."""

from collections.abc import Iterator

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from tests.serve.conftest import SOURCE, Running, serve
from tests.serve.fuzz_table import FUZZED
from tests.serve.parrot import Parrot

from codegemma.serve.api.openapi import describe_doors
from codegemma.serve.doors import DOORS

DOCUMENT = describe_doors(DOORS)
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
TRIES_A_ROUTE = 12
TRIED = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def fuzzed(tokenizer) -> Iterator[Running]:
    with serve(Parrot(tokenizer, SOURCE)) as server:
        yield server


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """One connection for all requests: opening one takes longer than most answers."""
    with requests.Session() as opened:
        opened.trust_env = False  # neither proxies nor .netrc are looked for at each request
        yield opened


def test_the_document_is_served_and_names_every_door(fuzzed):
    document = fuzzed.client.get("/openapi.json").json()
    assert document == DOCUMENT
    assert {d.path.replace(":path", "") for d in DOORS} == document["paths"].keys()


def check(fuzzed, session, record_property, case) -> None:
    reply = case.call(base_url=fuzzed.url, session=session)
    record_property(FUZZED, reply.status_code)
    told = DOCUMENT["paths"][case.operation.path].get(case.method.lower(), {"responses": {"405": {}}})
    assert str(reply.status_code) in told["responses"], reply.text


@SCHEMA.parametrize()
@settings(TRIED, max_examples=TRIES_A_ROUTE, phases=[Phase.generate])
def test_whatever_is_tried_gets_an_answer_that_the_document_tells(fuzzed, session, record_property, case):
    check(fuzzed, session, record_property, case)


@pytest.mark.slow
@SCHEMA.parametrize()
@settings(TRIED, phases=[Phase.explicit])
def test_every_border_of_every_field_gets_an_answer_that_the_document_tells(fuzzed, session, record_property, case):
    """Four thousand requests, near what `test_hostile.py` sends to every field by our own choice."""
    check(fuzzed, session, record_property, case)
