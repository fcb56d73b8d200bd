"""Small repositories on disk for the tests of the corpus."""

import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

GIT_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def git(folder: Path, *arguments: str, time_s: int = 1_600_000_000) -> str:
    command = ["git", "-C", str(folder), "-c", "core.autocrlf=false", *arguments]
    times = {f"GIT_{who}_DATE": f"@{time_s} +0000" for who in ("AUTHOR", "COMMITTER")}
    done = subprocess.run(command, env=GIT_ENVIRONMENT | times, check=True, capture_output=True, text=True)
    return done.stdout


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for path, content in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def commit(root: Path, time_s: int = 1_600_000_000) -> None:
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", "x", time_s=time_s)


def make_form(folder: Path, form: str, files: dict[str, str | bytes]) -> Path:
    root = write(folder / "plain", files)
    if form == "folder":
        return root
    if form in ("tree", "bare.git"):
        commit(root)
        if form == "bare.git":
            git(folder, "clone", "-q", "--bare", str(root), form)
        return root if form == "tree" else folder / form
    paths = [path for path in sorted(root.rglob("*")) if path.is_file()]
    if form.endswith(".zip"):
        method = zipfile.ZIP_STORED if form.startswith("stored") else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(folder / form, "w", method) as archive:
            for path in paths:
                archive.write(path, path.relative_to(root))
    else:
        with tarfile.open(folder / form, "w:gz" if form.endswith(".gz") else "w") as tar:
            for path in paths:
                tar.add(path, path.relative_to(root))
    return folder / form
