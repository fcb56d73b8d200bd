"""Lists a synthetic repository of many tiny files in each form, and prints time and memory per file.

**In**: how many files; a folder to make them in.
**Out**: a table: CPU microseconds per file, resident megabytes above the start, bytes of one pickled entry.
**Not**: reading the files.

    python benchmarks/listing.py --files 1000000 --folder /tmp/million
"""

import argparse
import io
import pickle
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FILES_IN_FOLDER = 1_000
FORMS = ("tree", "flat", "bare.git", "repo.zip", "repo.tar.zst", "table.parquet")


def name_files(files: int) -> Iterator[str]:
    return (f"package{n // FILES_IN_FOLDER:04}/module_number_{n:07}.py" for n in range(files))


def make_tree(folder: Path, files: int) -> None:
    for name in name_files(files):
        path = folder / name
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
        path.write_text(f"x = '{name}'\n")


def make_flat(folder: Path, files: int) -> None:
    folder.mkdir()
    for name in name_files(files):
        (folder / name.replace("/", "_")).write_text("x = 1\n")


def make_bare(folder: Path, files: int) -> None:
    subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True)  # noqa: S607
    command = ["git", "-C", str(folder), "fast-import", "--quiet"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as importer:
        assert importer.stdin is not None
        importer.stdin.write(b"commit HEAD\ncommitter a <a@b.c> 0 +0000\ndata 1\nx\n")
        for name in name_files(files):
            content = f"x = '{name}'\n".encode()
            importer.stdin.write(b"M 644 inline %s\ndata %d\n%s\n" % (name.encode(), len(content), content))
        importer.stdin.close()
    assert importer.returncode == 0


def make_zip(path: Path, files: int) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in name_files(files):
            archive.writestr(name, f"x = '{name}'\n")


def make_tar(path: Path, files: int) -> None:
    with pa.output_stream(str(path), compression="zstd") as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        for name in name_files(files):
            content, info = f"x = '{name}'\n".encode(), tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def make_table(path: Path, files: int) -> None:
    names = list(name_files(files))
    contents = [f"x = '{name}'\n" for name in names]
    columns = {"repo": ["owner/name"] * files, "path": names, "content": contents, "size": list(map(len, contents))}
    pq.write_table(pa.table(columns), path, row_group_size=10_000)


MAKERS: dict[str, Callable[[Path, int], None]] = dict(
    zip(FORMS, (make_tree, make_flat, make_bare, make_zip, make_tar, make_table), strict=True)
)


def read_peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1e3 for line in status.splitlines() if line.startswith("VmHWM"))


def measure(path: Path, folder: Path) -> str:
    from codegemma.corpus.inputs import list_repositories

    before_mb, started_s = read_peak_mb(), time.process_time()
    [listing] = list_repositories([path], scratch=folder / "scratch")
    cpu_s, peak_mb = time.process_time() - started_s, read_peak_mb()
    files = len(listing.entries)
    pickled = len(pickle.dumps(listing.entries[files // 2]))
    return (
        f"{cpu_s / files * 1e6:8.1f} {peak_mb - before_mb:8.0f} {(peak_mb - before_mb) * 1e6 / files:8.0f} {pickled:8}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--form", choices=FORMS)
    arguments = parser.parse_args()
    if arguments.form:  # a fresh process for each, so that the peaks do not mix
        print(measure(arguments.folder / arguments.form, arguments.folder))
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(f"{'form':12} {'us/file':>8} {'peak MB':>8} {'B/file':>8} {'pickled':>8}  ({arguments.files} files)")
    for form in FORMS:
        path = arguments.folder / form
        if not path.exists():
            MAKERS[form](path, arguments.files)
        command = [sys.executable, __file__, "--folder", str(arguments.folder), "--form", form]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        print(f"{form:12} {done.stdout.rstrip()}", flush=True)


if __name__ == "__main__":
    main()
