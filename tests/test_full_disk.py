"""A disk that is full in the middle of any step: the file is named, nothing half is trusted, a rerun does the rest."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.corpus.repositories import make_form, write

from codegemma.build import build_data
from codegemma.errors import OutputError
from codegemma.recipe import override
from codegemma.recipes import load_recipe

RECIPE = override(load_recipe("tiny"), ["corpus.heldout_share=0.2"])


def module(name: str) -> str:
    return "".join(f"def {name}_{n}({name}_x):\n    return {name}_x * {n} - len('{name}')\n\n\n" for n in range(8))


def make_inputs(root: Path) -> list[Path]:
    """Make a folder and an archive, so that near-duplicates are looked for and a scratch file is written."""
    first: dict[str, str | bytes] = {f"d{n % 6}/m{n}.py": module(f"one{n}") for n in range(24)}
    second: dict[str, str | bytes] = {f"e{n % 6}/m{n}.py": module(f"two{n}") for n in range(24)}
    (root / "packed").mkdir(parents=True)
    return [write(root / "plain", first), make_form(root / "packed", "two.tar.gz", second)]


def read_all(out: Path) -> dict[str, bytes]:
    """Read every file that a build wrote; manifests and page hold times."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.suffix not in (".json", ".html")
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def wanted(inputs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("wanted") / "out"
    build_data(inputs, out, RECIPE)
    return read_all(out)


@pytest.fixture
def limit_files() -> Iterator[Callable[[int | None], None]]:
    """Limit how long a file of this process may grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size_bytes: resource.setrlimit(
        resource.RLIMIT_FSIZE, (soft if size_bytes is None else size_bytes, hard)
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size_bytes", [0, 100, 1_000, 3_000, 6_000, 12_000])
def test_files_that_cannot_grow_end_the_build_with_their_name(
    inputs: list[Path],
    wanted: dict[str, bytes],
    tmp_path: Path,
    limit_files: Callable[[int | None], None],
    size_bytes: int,
) -> None:
    out = tmp_path / "out"
    limit_files(size_bytes)
    try:
        with pytest.raises(OutputError, match=r"cannot be written \(.*(make room|choose another)"):
            build_data(inputs, out, RECIPE)
    finally:
        limit_files(None)
    assert not (out / "packs.json").exists()
    build_data(inputs, out, RECIPE)
    assert read_all(out) == wanted


def test_a_disk_that_is_full_at_any_file_is_named_and_a_rerun_does_the_rest(
    inputs: list[Path], wanted: dict[str, bytes], tmp_path: Path
) -> None:
    """Let each kind of file fail once as on a full disk; what was written before stays and is used."""
    out, failed, replace = tmp_path / "out", set[str](), Path.replace

    def replace_if_room(self: Path, target: Path) -> Path:
        if (kind := target.name.partition("-")[0]) not in failed:
            failed.add(kind)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return replace(self, target)

    for _ in range(60):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "replace", replace_if_room)
            try:
                build_data(inputs, out, RECIPE)
                break
            except OutputError as error:
                assert "No space left on device" in str(error)
        assert not list(out.rglob(".*.tmp"))
    assert read_all(out) == wanted
    assert failed >= {"texts", "quality", "corpus.json", "packs", "report.html"}, failed
