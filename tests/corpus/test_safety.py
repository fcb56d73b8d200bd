import random
import string
import sysconfig
import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.read import read_repository
from codegemma.corpus.safety import RULES_FILE, Finding, find_secrets, measure_entropy_bits
from codegemma.records import SourceFile

ALNUM = string.ascii_letters + string.digits
URL_SAFE = ALNUM + "-_"
BASE64 = ALNUM + "+/"
HEX = "0123456789abcdef"
SAMPLES_PER_RULE = 40
Draw = Callable[[str, int], str]

# How a secret of each rule looks in code. Built from parts, so that no scanner takes this file for a leak.
SHAPES: dict[str, Callable[[Draw], str]] = {
    "private-key": lambda draw: f"-----BEGIN {'RSA'} PRIVATE KEY-----\n{draw(BASE64, 64)}\n{draw(BASE64, 64)}\n",
    "aws-access-key-id": lambda draw: f"id = '{'AKIA'}{draw(string.ascii_uppercase + '234567', 16)}'",
    "aws-secret-access-key": lambda draw: f'AWS_SECRET_ACCESS_KEY = "{draw(BASE64, 40)}"',
    "github-token": lambda draw: f"token: {'ghp_'}{draw(ALNUM, 36)}",
    "github-fine-grained-token": lambda draw: f"x={'github_pat_'}{draw(ALNUM, 22)}_{draw(ALNUM, 59)}",
    "gitlab-token": lambda draw: f"'{'glpat-'}{draw(URL_SAFE, 20)}'",
    "slack-token": lambda draw: f"'{'xoxb-'}{draw(string.digits, 12)}-{draw(string.digits, 12)}-{draw(ALNUM, 24)}'",
    "slack-webhook": lambda draw: (
        f"https://{'hooks.slack.com'}/services/T{draw(ALNUM, 8)}/B{draw(ALNUM, 8)}/{draw(ALNUM, 24)}"
    ),
    "stripe-key": lambda draw: f"stripe.api_key = '{'sk_live_'}{draw(ALNUM, 24)}'",
    "google-api-key": lambda draw: f"key={'AIza'}{draw(URL_SAFE, 35)}&q=1",
    "google-oauth-secret": lambda draw: f"'{'GOCSPX-'}{draw(URL_SAFE, 28)}'",
    "openai-key": lambda draw: f"OPENAI = '{'sk-'}{draw(ALNUM, 20)}T3BlbkFJ{draw(ALNUM, 20)}'",
    "anthropic-key": lambda draw: f"'{'sk-ant-'}api03-{draw(URL_SAFE, 93)}AA'",
    "huggingface-token": lambda draw: f"login('{'hf_'}{draw(string.ascii_letters, 34)}')",
    "pypi-token": lambda draw: f"password = {'pypi-'}AgEIcHlwaS5vcmc{draw(URL_SAFE, 120)}",
    "npm-token": lambda draw: f"//registry/:_authToken={'npm_'}{draw(ALNUM, 36)}",
    "sendgrid-key": lambda draw: f"'{'SG.'}{draw(URL_SAFE, 22)}.{draw(URL_SAFE, 43)}'",
    "twilio-key": lambda draw: f"'{'SK'}{draw(HEX, 32)}'",
    "azure-storage-key": lambda draw: f"AccountName=a;{'AccountKey='}{draw(BASE64, 86)}==;",
    "digitalocean-token": lambda draw: f"{'dop_v1_'}{draw(HEX, 64)}",
    "telegram-bot-token": lambda draw: f"'1{draw(string.digits, 8)}:{'AA'}{draw(URL_SAFE, 33)}'",
    "json-web-token": lambda draw: f"{'eyJ'}{draw(URL_SAFE, 33)}.eyJ{draw(URL_SAFE, 60)}.{draw(URL_SAFE, 43)}",
    "url-password": lambda draw: f"'postgresql://app:{draw(ALNUM, 20)}@db.internal:5432/x'",
    "generic-assignment": lambda draw: f'"client_secret": "{draw(ALNUM, 32)}1"',
}


def rule_ids() -> list[str]:
    table = tomllib.loads(resources.files("codegemma.corpus").joinpath(RULES_FILE).read_text(encoding="utf-8"))
    return [row["id"] for row in table["rules"]]


def test_every_rule_has_a_recall_test() -> None:
    assert sorted(rule_ids()) == sorted(SHAPES)


@pytest.mark.parametrize("rule_id", SHAPES)
def test_generated_secrets_are_found_on_their_line(rule_id: str) -> None:
    source = random.Random(rule_id)
    found = 0
    for _ in range(SAMPLES_PER_RULE):
        secret = SHAPES[rule_id](lambda alphabet, n: "".join(source.choice(alphabet) for _ in range(n)))
        findings = find_secrets(f"# é — a comment\nimport os\n\nx = 1; {secret}\n")
        lines = {finding.line for finding in findings if finding.rule_id == rule_id}
        found += lines in ({4}, {5})  # a private key begins on the line after its header
    # Entropy gates and placeholder words may cost a few random ones.
    assert found >= 0.95 * SAMPLES_PER_RULE


@pytest.mark.parametrize(
    "text",
    [
        "api_key = 'YOUR_API_KEY_GOES_HERE_1'",
        "api_key = os.environ['API_KEY']",
        "password = 'correct-horse-battery-staple'",
        "password: '${DATABASE_PASSWORD_2024}'",
        "secret_key = 'django-insecure-example-key-1234567890'",
        f"aws = '{'AKIA'}IOSFODNN7EXAMPLE'",
        f"token = '{'ghp_'}{'x' * 36}'",
        "TOKEN_KEY = 'aaaaaaaaaaaaaaaaaaaaaaaaaaaa1'",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "url = 'postgres://user:password@localhost/db'",
        "access_token = 'refresh_token_grant_type_v2'",
        "",
    ],
)
def test_placeholders_are_no_secrets(text: str) -> None:
    assert find_secrets(text) == []


def test_finding_never_carries_the_secret() -> None:
    assert Finding._fields == ("rule_id", "line")


def test_standard_library_has_next_to_no_false_positives() -> None:
    folder = Path(sysconfig.get_path("stdlib"))
    files = [f for f in read_repository(folder, CorpusChoices()) if isinstance(f, SourceFile)]
    part = [file for number, file in enumerate(files) if number % 5 == 0]
    hits = {file.path: find_secrets(file.text) for file in part if find_secrets(file.text)}
    print(f"{len(hits)} of {len(part)} files of the standard library are taken for leaks: {hits}")
    assert len(hits) <= len(part) // 200


@given(st.text(max_size=60))
def test_entropy_lies_between_zero_and_that_of_distinct_characters(text: str) -> None:
    bits = measure_entropy_bits(text)
    assert -1e-9 <= bits <= measure_entropy_bits("".join(map(chr, range(1, len(text) + 1)))) + 1e-9


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_can_be_searched(text: str) -> None:
    lines = text.count("\n") + 1
    assert all(1 <= finding.line <= lines for finding in find_secrets(text + "'ghp_"))
