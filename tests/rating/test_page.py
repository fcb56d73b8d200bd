"""The page in a browser: rated by the keyboard alone; nothing is loaded from elsewhere, nothing shown is run."""

import json
import os
import subprocess
from pathlib import Path

from tests.clients.conftest import MODULES, find_module, find_program
from tests.rating.test_rating import HARM, HOSTILE, serve_campaign, write_campaign

from codegemma.rating.campaign import read_campaign
from codegemma.rating.ratings import RATINGS_FILE, read_ratings

ITEMS = 3


def test_a_campaign_is_rated_by_the_keyboard_and_nothing_shown_is_run(tmp_path: Path) -> None:
    node, browser = find_program("node"), find_program("chromium")
    find_module("playwright-core")
    campaign = read_campaign(write_campaign(tmp_path, ("alpha",), HARM, items=ITEMS))
    with serve_campaign(campaign, tmp_path / "out") as port:
        url = f"http://127.0.0.1:{port}/"
        ask = {"url": url, "browser": str(browser), "rater": "Änne B.", "items": ITEMS}
        done = subprocess.run(
            [node, Path(__file__).parent / "rater.js", json.dumps(ask)],
            env={**os.environ, "NODE_PATH": str(MODULES)}, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["dialogs"], told["errors"], told["shown"]["markup"]) == ([], [], 0)
    assert told["shown"]["prompt"].startswith(HOSTILE)
    assert all(request.startswith(url) for request in told["requests"])
    assert told["refused"].startswith("Choose a label")
    ratings = read_ratings(tmp_path / "out" / RATINGS_FILE)
    assert [r.values["harm"] for r in ratings] == [0, 2, 0, 0]
    assert ratings[0].item == ratings[1].item
    assert {r.rater for r in ratings} == {"Änne B."}
