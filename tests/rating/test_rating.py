"""People rate blind: no answer of the server names a system, what they say is kept, and agreement is Krippendorff's."""

import contextlib
import http.client
import json
import re
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from codegemma.cli.rate import command
from codegemma.errors import InputError
from codegemma.rating.agreement import compute_alpha
from codegemma.rating.app import RatingApp
from codegemma.rating.campaign import Campaign, Scale, read_campaign
from codegemma.rating.ratings import RATINGS_FILE, RatingStore, read_ratings
from codegemma.rating.summary import SUMMARY_FILE, spell_summary, summarize
from codegemma.serve.server import open_socket

PREFERENCE = '[[questions]]\nid = "preference"\ntext = "Which is better?"\nlabels = ["left", "same", "right"]\n'
HARM = '[[questions]]\nid = "harm"\ntext = "How harmful?"\nlabels = ["not", "somewhat", "very"]\n'
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
# Krippendorff (2011): four observers, twelve units, values from 1 to 5.
UNITS = ["111", "2232", "3333", "3333", "2222", "1234", "4444", "1121", "2222", "555", "11", "3"]


def write_campaign(folder: Path, systems: tuple[str, ...], questions: str, items: int = 6) -> Path:
    for system in systems:
        rows = [
            {"item": f"i{n}", "prompt": f"{HOSTILE} {n}", "answer": f"{system[::-1]} says {n}"} for n in range(items)
        ]
        lines = [json.dumps({**row, "system": f"secret-{system}"}) for row in rows]
        (folder / f"{system}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    answers = json.dumps([f"{system}.jsonl" for system in systems])
    text = f'title = "A campaign"\ninstructions = "Be fair."\nanswers = {answers}\nseed = 3\n{questions}'
    (folder / "campaign.toml").write_text(text, encoding="utf-8")
    return folder / "campaign.toml"


@contextlib.contextmanager
def serve_campaign(campaign: Campaign, folder: Path, token: str | None = None) -> Iterator[int]:
    app = RatingApp(campaign, RatingStore(folder, campaign), token).build()
    with open_socket("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, ws="none", lifespan="off", log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def _ask(
    port: int, path: str, body: object = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        content = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        connection.request("POST" if body is not None else "GET", path, content, headers or {})
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def _ask_json(port: int, path: str, body: object = None) -> Any:
    status, _, content = _ask(port, path, body)
    assert status == 200, content
    return json.loads(content)


def test_two_raters_rate_blind_and_the_sides_are_turned_back(tmp_path: Path) -> None:
    campaign = read_campaign(write_campaign(tmp_path, ("alpha", "beta"), PREFERENCE))
    with serve_campaign(campaign, tmp_path / "out") as port:
        for rater in ("anna", "ben"):
            # Both prefer what the system "alpha" wrote, on whichever side they see it.
            while (shown := _ask_json(port, f"/next?rater={rater}"))["item"] is not None:
                assert "secret" not in json.dumps(shown)
                assert shown["prompt"].startswith(HOSTILE)
                side = [answer.startswith("ahpla") for answer in shown["answers"]].index(True)
                _ask_json(port, "/rate", {"rater": rater, "item": shown["item"], "values": {"preference": 2 * side}})
            assert (shown["done"], shown["items"]) == (6, 6)
    ratings = read_ratings(tmp_path / "out" / RATINGS_FILE)
    assert len(ratings) == 12
    assert {r.values["preference"] for r in ratings} == {0}
    assert len({r.was_swapped for r in ratings}) == 2
    summary = summarize(campaign, ratings)
    (question,) = summary.questions
    assert (summary.raters, summary.items, summary.items_rated_twice) == (2, 6, 6)
    assert question.first is not None
    assert question.second is not None
    assert (question.first.mean, question.second.mean) == (1.0, 0.0)
    assert question.alpha is None  # nobody disagreed, and nobody could have
    assert any("secret-alpha preferred: 100.00" in line for line in spell_summary(summary))


def test_a_restart_goes_on_and_a_second_rating_takes_the_firsts_place(tmp_path: Path) -> None:
    campaign = read_campaign(write_campaign(tmp_path, ("alpha",), HARM, items=2))
    store = RatingStore(tmp_path / "out", campaign)
    first = store.find_next("anna")
    assert first is not None
    store.add("anna", first.item_id, {"harm": 0}, "fine\ud800", float("nan"))
    again = RatingStore(tmp_path / "out", campaign)
    assert again.count("anna") == 1
    assert again.find_next("anna") != first
    again.add("anna", first.item_id, {"harm": 2}, "", 1.0)
    summary = summarize(campaign, read_ratings(tmp_path / "out" / RATINGS_FILE))
    assert summary.questions[0].counts == (0, 0, 1)
    with (tmp_path / "out" / RATINGS_FILE).open("a") as file:
        file.write('{"rater": "anna", "it')  # the machine went down
    assert len(read_ratings(tmp_path / "out" / RATINGS_FILE)) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"no json", "wanted an object"),
        (b"[1]", "wanted an object"),
        ({"rater": "a", "item": "nope", "values": {"harm": 0}}, "no item 'nope'"),
        ({"rater": "a", "item": "i0", "values": {"harm": 3}}, "wanted 0 to 2"),
        ({"rater": "a", "item": "i0", "values": {"harm": True}}, "no label"),
        ({"rater": "a", "item": "i0", "values": {}}, "values for nothing; wanted harm"),
        ({"rater": "a\n", "item": "i0", "values": {"harm": 0}}, "no name of a rater"),
    ],
)
def test_bad_ratings_are_refused_and_nothing_is_kept(tmp_path: Path, body: object, message: str) -> None:
    campaign = read_campaign(write_campaign(tmp_path, ("alpha",), HARM))
    with serve_campaign(campaign, tmp_path / "out") as port:
        status, _, content = _ask(port, "/rate", body)
        assert status == 400
        assert message in json.loads(content)["error"]
        assert _ask(port, "/rate", b"x" * 70_000)[0] == 413
    assert not (tmp_path / "out" / RATINGS_FILE).exists()


def test_other_pages_and_other_names_are_refused_and_a_key_is_asked_for(tmp_path: Path) -> None:
    campaign = read_campaign(write_campaign(tmp_path, ("alpha",), HARM))
    with serve_campaign(campaign, tmp_path / "open") as port:
        assert _ask(port, "/campaign", headers={"Origin": "http://evil.test"})[0] == 403
        assert _ask(port, "/campaign", headers={"Host": "evil.test"})[0] == 403
        assert _ask(port, "/campaign", headers={"Origin": f"http://127.0.0.1:{port}"})[0] == 200
    with serve_campaign(campaign, tmp_path / "keyed", token="word") as port:
        assert _ask(port, "/campaign")[0] == 401
        assert _ask(port, "/campaign", headers={"Authorization": "Bearer wor"})[0] == 401
        assert _ask(port, "/campaign", headers={"Authorization": "Bearer word"})[0] == 200


def test_the_page_loads_nothing_from_elsewhere_and_writes_no_markup(tmp_path: Path) -> None:
    campaign = read_campaign(write_campaign(tmp_path, ("alpha",), HARM))
    with serve_campaign(campaign, tmp_path / "out") as port:
        for path, kind in (("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")):
            status, headers, content = _ask(port, path)
            assert status == 200
            assert headers["content-type"].startswith(kind)
            assert "default-src 'none'" in headers["content-security-policy"]
            assert not re.search(rb"https?://|\bimport\b|@import|url\(", content)
    script = resources.files("codegemma.rating").joinpath("page.js").read_text("utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|DOMParser", script)


def test_alpha_is_that_of_krippendorffs_example() -> None:
    items = [[int(value) - 1 for value in unit] for unit in UNITS]
    nominal, ordinal = compute_alpha(items, 5, Scale.NOMINAL), compute_alpha(items, 5, Scale.ORDINAL)
    assert nominal == pytest.approx(0.743, abs=5e-4)
    assert ordinal == pytest.approx(0.815, abs=5e-4)


@given(st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=12), st.sampled_from(Scale))
def test_alpha_is_at_most_one_and_does_not_hang_on_the_raters_order(items: list[list[int]], scale: Scale) -> None:
    alpha = compute_alpha(items, 4, scale)
    turned = compute_alpha([values[::-1] for values in items[::-1]], 4, scale)
    if alpha is None:
        assert turned is None
    else:
        assert alpha == pytest.approx(turned)
        assert alpha <= 1
        agrees = all(len(set(values)) <= 1 for values in items)
        assert (alpha == pytest.approx(1)) == agrees


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no toml", "cannot be read as a campaign"),
        ('title = "t"\nanswers = []', "is no campaign"),
        (f'title = "t"\nanswers = []\n{HARM}', "one or two files of answers"),
        (f'title = "t"\nanswers = ["none.jsonl"]\n{HARM}', "cannot be read as answers"),
        (f'title = "t"\nanswers = ["alpha.jsonl", "alpha.jsonl"]\n{HARM}', "both files hold answers of secret-alpha"),
        (f'title = "t"\nanswers = ["twice.jsonl"]\n{HARM}', "a second time"),
        (f'title = "t"\nanswers = ["alpha.jsonl", "else.jsonl"]\n{HARM}', "no item in common"),
        ('title = "t"\nanswers = ["alpha.jsonl"]\n[[questions]]\nid = "q"\ntext = "?"\nlabels = ["one"]', "2 to 9"),
    ],
)
def test_foreign_campaigns_are_refused(tmp_path: Path, text: str, message: str) -> None:
    write_campaign(tmp_path, ("alpha",), HARM)
    row = '{"item": "a", "prompt": "p", "answer": "q"}\n'
    (tmp_path / "twice.jsonl").write_text(row * 2)
    (tmp_path / "else.jsonl").write_text(row)
    (tmp_path / "campaign.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_campaign(tmp_path / "campaign.toml")


def test_answers_of_an_evaluation_can_be_rated(tmp_path: Path) -> None:
    path = write_campaign(tmp_path, ("alpha",), HARM)
    row = {"prompt_id": "child_safety/benign/1", "request": "Write a loop.", "answer": "", "stance": "none"}
    (tmp_path / "alpha.jsonl").write_text(json.dumps(row) + "\n")
    (item,) = read_campaign(path).items
    assert (item.item_id, item.prompt, item.answers) == ("child_safety/benign/1", "Write a loop.", ("",))


def test_summary_says_there_are_no_ratings_and_is_kept_once_there_are(tmp_path: Path) -> None:
    path = write_campaign(tmp_path, ("alpha",), HARM)
    arguments = [str(path), "--out", str(tmp_path / "out"), "--summary"]
    empty = CliRunner().invoke(command, arguments)
    assert "no human ratings" in empty.output
    assert not (tmp_path / "out" / SUMMARY_FILE).exists()
    campaign = read_campaign(path)
    store = RatingStore(tmp_path / "out", campaign)
    for rater, value in (("anna", 0), ("ben", 1)):
        for item in campaign.items:
            store.add(rater, item.item_id, {"harm": value}, "", 2.0)
    told = CliRunner().invoke(command, arguments)
    assert "2 raters, 6 items, 6 of them rated by two or more" in told.output
    assert "harm: not 6, somewhat 6, very 0" in told.output
    assert json.loads((tmp_path / "out" / SUMMARY_FILE).read_text())["raters"] == 2


def test_ratings_of_other_systems_are_not_mixed_in(tmp_path: Path) -> None:
    campaign = read_campaign(write_campaign(tmp_path, ("alpha",), HARM))
    RatingStore(tmp_path / "out", campaign).add("anna", "i0", {"harm": 0}, "", 1.0)
    other = read_campaign(write_campaign(tmp_path, ("beta",), HARM))
    with pytest.raises(InputError, match="rates secret-alpha; take another --out"):
        RatingStore(tmp_path / "out", other)


def test_a_line_that_was_cut_off_is_not_glued_to_the_next(tmp_path):
    campaign = read_campaign(write_campaign(tmp_path, ("a", "b"), PREFERENCE, items=3))
    store = RatingStore(tmp_path / "out", campaign)
    first, second, third = (item.item_id for item in campaign.items)
    for item in (first, second):
        store.add("Zoë", item, {"preference": 0}, "naïve", 1.0)
    file = tmp_path / "out" / RATINGS_FILE
    whole = file.read_bytes()
    for end in range(whole.index(b"\n") + 1, len(whole)):
        file.write_bytes(whole[:end])
        RatingStore(tmp_path / "out", campaign).add("Zoë", third, {"preference": 2}, "", 1.0)
        kept = [second] if end == len(whole) - 1 else []
        assert [rating.item for rating in read_ratings(file)] == [first, *kept, third]


def test_half_a_character_in_an_answer_reaches_the_page(tmp_path):
    path = write_campaign(tmp_path, ("a",), HARM, items=1)
    (tmp_path / "a.jsonl").write_text('{"item": "i", "prompt": "p\u2028q", "answer": "\\ud83d"}\n', encoding="utf-8")
    with serve_campaign(read_campaign(path), tmp_path / "out") as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/next?rater=Ann")
            reply = connection.getresponse()
            assert (reply.status, json.loads(reply.read())["answers"]) == (200, ["\ud83d"])
