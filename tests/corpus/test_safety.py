import random
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.corpus.secret_shapes import SHAPES, draw_secret

from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.read import read_repository
from codegemma.corpus.safety import Finding, find_secrets, measure_entropy_bits
from codegemma.corpus.secret_rules import load_secret_rules
from codegemma.records import SourceFile

SAMPLES_PER_SHAPE = 40


def test_every_rule_has_a_recall_test() -> None:
    assert sorted(rule.rule_id for rule in load_secret_rules().rules) == sorted(SHAPES)


@pytest.fixture(scope="module")
def clean_texts() -> list[str]:
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts = [path.read_text(encoding="utf-8") for path in paths if 1_000 < path.stat().st_size < 8_000]
    return [text for text in texts if not find_secrets(text)]


@pytest.mark.parametrize("rule_id", SHAPES)
def test_generated_secrets_are_found_on_their_line(rule_id: str, clean_texts: list[str]) -> None:
    source = random.Random(rule_id)
    for template in SHAPES[rule_id]:
        found = 0
        for _ in range(SAMPLES_PER_SHAPE):
            lines = source.choice(clean_texts).splitlines()
            number = source.randrange(len(lines)) + 1
            lines.insert(number - 1, draw_secret(template, source))
            findings = find_secrets("# é\n" + "\n".join(lines))
            places = {finding.line for finding in findings if finding.rule_id == rule_id}
            # A private key begins on the line after its header.
            found += bool(places) and places <= {number + 1, number + 2}
        # Entropy gates, digits and placeholder words may cost a few random ones.
        assert found >= 0.95 * SAMPLES_PER_SHAPE, (template, found)


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
    hits = {file.path: found for file in files if (found := find_secrets(file.text, file.path))}
    print(f"{len(hits)} of {len(files)} files of the standard library are taken for leaks: {hits}")
    assert len(hits) <= len(files) // 200


def test_lines_are_right_for_many_secrets_in_one_file() -> None:
    source = random.Random(3)
    lines = [draw_secret("x = 'hf_{w34}'", source) if number % 7 == 0 else "pass" for number in range(1, 500)]
    assert find_secrets("\n".join(lines)) == [Finding("huggingface-token", n) for n in range(7, 500, 7)]


@given(st.text(max_size=60))
def test_entropy_lies_between_zero_and_that_of_distinct_characters(text: str) -> None:
    bits = measure_entropy_bits(text)
    assert -1e-9 <= bits <= measure_entropy_bits("".join(map(chr, range(1, len(text) + 1)))) + 1e-9


@given(st.text())
def test_any_text_can_be_searched(text: str) -> None:
    lines = text.count("\n") + 1
    assert all(finding.line and finding.line <= lines for finding in find_secrets(text + "'ghp_"))
