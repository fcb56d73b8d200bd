import sys
from collections.abc import Callable

import pytest
from tests.cli.running import Ran

from codegemma.cli.main import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run `codegemma` with these arguments; no error may show a traceback."""

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["codegemma", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return call
