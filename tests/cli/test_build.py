"""`codegemma build` on a real package."""

import email
import json
from pathlib import Path

from click.testing import CliRunner

from codegemma.cli.build import command
from codegemma.records import Pack
from codegemma.shards import read_records

REPO = str(Path(str(email.__file__)).parent)


def test_build_writes_packs_and_a_report_and_says_what_to_do_next(tmp_path):
    result = CliRunner().invoke(command, [REPO, "--out", str(tmp_path), "--workers", "1"])
    assert result.exit_code == 0, result.output
    packs = list(read_records(tmp_path / "packs-train.parquet", Pack))
    assert {file.path for pack in packs for file in pack.files} >= {"policy.py", "_policybase.py"} - {
        file.path for pack in read_records(tmp_path / "packs-heldout.parquet", Pack) for file in pack.files
    }
    assert "codegemma train --data" in result.output
    page = (tmp_path / "report.html").read_text()
    assert "in = kept + dropped" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_json_is_one_object_that_counts_every_file(tmp_path):
    result = CliRunner().invoke(command, [REPO, "--out", str(tmp_path), "--workers", "1", "--json"])
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    stages = report["corpus"]["stages"]
    assert stages[0]["files_in"] > 20
    for stage in stages:
        assert stage["files_in"] == stage["files_kept"] + stage["files_dropped"]


def test_building_again_reuses_what_is_there(tmp_path):
    arguments = [REPO, "--out", str(tmp_path), "--workers", "1", "--json"]
    CliRunner().invoke(command, arguments)
    stamp = (tmp_path / "packs-train.parquet").stat().st_mtime_ns
    again = json.loads(CliRunner().invoke(command, arguments).stdout)
    assert again["corpus"]["is_reused"]
    assert again["packs"]["is_reused"]
    assert (tmp_path / "packs-train.parquet").stat().st_mtime_ns == stamp
