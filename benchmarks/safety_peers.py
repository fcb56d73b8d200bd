"""What the peers of `benchmarks/safety.py` say and cost; runs under a Python that has them installed.

    python benchmarks/safety_peers.py < request.json > answer.json

**In**: texts, and optionally detect-secrets' own tests and the model of BigCode's gibberish filter.
**Out**: per peer the findings of each text and the CPU seconds; the cases of those tests.
**Not**: imports of ours: the peers' pins and ours need not agree.
"""

import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# BigCode's choice for StarCoder's data, by name: 18 detectors and four filters.
PLUGINS = [
    "ArtifactoryDetector",
    "AWSKeyDetector",
    "Base64HighEntropyString",
    "HexHighEntropyString",
    "AzureStorageKeyDetector",
    "CloudantDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "IbmCloudIamDetector",
    "IbmCosHmacDetector",
    "JwtTokenDetector",
    "MailchimpDetector",
    "NpmDetector",
    "SendGridDetector",
    "SlackDetector",
    "SoftlayerDetector",
    "StripeDetector",
    "TwilioKeyDetector",
]
FILTERS = ["is_potential_uuid", "is_likely_id_string", "is_templated_secret", "is_sequential_string"]
# The tests of those detectors.
TESTS = {
    "artifactory": "artifactory_test",
    "aws": "aws_key_test",
    "azure": "azure_storage_key_test",
    "cloudant": "cloudant_test",
    "discord": "discord_test",
    "github": "github_token_test",
    "high entropy": "high_entropy_strings_test",
    "ibm iam": "ibm_cloud_iam_test",
    "ibm cos": "ibm_cos_hmac_test",
    "jwt": "jwt_test",
    "mailchimp": "mailchimp_key_test",
    "npm": "npm_test",
    "sendgrid": "sendgrid_test",
    "slack": "slack_test",
    "softlayer": "softlayer_test",
    "stripe": "stripe_key_test",
    "twilio": "twilio_test",
}


def scan(texts: list[str], gibberish_model: str | None) -> dict[str, Any]:
    """Scan texts as BigCode does: one temporary file each."""
    from detect_secrets import SecretsCollection
    from detect_secrets.settings import transient_settings

    judge = None
    if gibberish_model:
        from gibberish_detector import detector

        judge = detector.create_from_model(gibberish_model)
    settings = {
        "plugins_used": [{"name": name} for name in PLUGINS],
        "filters_used": [{"path": f"detect_secrets.filters.heuristic.{name}"} for name in FILTERS],
    }
    found = []
    started_s = time.process_time()
    for text in texts:
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8", errors="replace") as file:
            file.write(text)
            file.flush()
            secrets = SecretsCollection()
            with transient_settings(settings):
                secrets.scan_file(file.name)
        hits = [(secret.type, secret.line_number, secret.secret_value or "") for _, secret in secrets]
        found.append([hit[:2] for hit in hits if judge is None or judge.is_gibberish(hit[2].lower())])
    return {"found": found, "cpu_s": time.process_time() - started_s}


def format_personal(texts: list[str]) -> dict[str, Any]:
    """Replace e-mail and IP addresses as datatrove does."""
    from datatrove.pipeline.formatters import PIIFormatter

    formatter = PIIFormatter()
    started_s = time.process_time()
    changed = [formatter.format(text) != text for text in texts]
    return {"changed": sum(changed), "cpu_s": time.process_time() - started_s}


def read_cases(folder: Path) -> list[tuple[str, str, bool]]:
    """Read the parameters of the detectors' own tests: kind, text, and whether it is to be found."""
    cases: list[tuple[str, str, bool]] = []
    for kind, name in TESTS.items():
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        if spec is None or spec.loader is None or not (folder / f"{name}.py").exists():
            raise SystemExit(f"{folder / name}.py: no such test; wanted the folder tests/plugins of detect-secrets")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        classes = [
            item for item in vars(module).values() if isinstance(item, type) and item.__name__.startswith("Test")
        ]
        for test in (function for cls in classes for function in vars(cls).values()):
            for mark in getattr(test, "pytestmark", []):
                cases += [(kind, *case) for case in _read_mark(mark)]
        for mark in (mark for cls in classes for mark in getattr(cls, "pytestmark", []) if kind == "high entropy"):
            for _, non_secret, secret in mark.args[1]:
                cases += [(kind, f'"{secret}"', True), (kind, f"'{secret}'", True), (kind, f'"{non_secret}"', False)]
    return cases


def _read_mark(mark: Any) -> list[tuple[str, bool]]:
    names = [name.strip() for name in mark.args[0].split(",")] if isinstance(mark.args[0], str) else list(mark.args[0])
    if names[0] not in ("payload", "line"):
        return []
    rows = [row if isinstance(row, tuple) else (row, True) for row in mark.args[1]]
    return [(row[0], bool(row[1])) for row in rows]


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    answer: dict[str, Any] = {"scan": scan(request["texts"], request["gibberish_model"])}
    if request["personal"]:
        answer["personal"] = format_personal(request["texts"])
    if request["tests"]:
        answer["cases"] = read_cases(Path(request["tests"]))
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
