"""The command line as a whole: help is quick and teaches, errors are short and mean something."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from codegemma.cli.main import VERBS, VerbGroup, cli


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "codegemma", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_help_lists_every_verb_without_importing_what_computes():
    program = (
        "import sys\n"
        "from codegemma.cli.main import cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        "loaded = {'jax', 'numpy', 'pyarrow', 'rich', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    assert all(verb in result.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_shows_an_example(verb):
    result = CliRunner().invoke(cli, [verb, "--help"])
    assert result.exit_code == 0
    assert f"codegemma {verb} " in result.output.replace(f"Usage: cli {verb}", "")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_does_not_load_jax(verb):
    program = (
        "import sys\n"
        "from codegemma.cli.main import cli\n"
        f"cli.main([{verb!r}, '--help'], standalone_mode=False)\n"
        "sys.exit('jax was loaded' if 'jax' in sys.modules else 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr


def test_an_unknown_verb_is_wrong_usage_and_the_known_ones_are_listed():
    result = run("adpat")
    assert result.returncode == 2
    assert "No such command 'adpat'; known: adapt, build" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_error_of_the_user_is_one_message_without_traceback(tmp_path):
    result = run("build", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"))
    assert result.returncode == 3
    assert "nowhere" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_choice_lists_the_known_ones(tmp_path):
    result = run("build", str(tmp_path), "--out", str(tmp_path / "out"), "--set", "corpus.heldout_shar=0.2")
    assert result.returncode == 2
    assert "heldout_share" in result.stderr


def test_verbs_and_modules_agree():
    group = cli
    assert isinstance(group, VerbGroup)
    assert group.get_command(None, "no-such-verb") is None  # type: ignore[arg-type]
