"""Licences: what states one, whose word counts, and what a list of accepted ones lets through."""

import re
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from identify.vendor.licenses import LICENSES
from tests.corpus.repositories import write

from codegemma.corpus import licenses
from codegemma.corpus.choices import CorpusChoices
from codegemma.corpus.licenses import (
    MAX_STATEMENT_BYTES,
    FolderLicenses,
    expand_accepted,
    identify_text,
    is_accepted,
    is_license_text,
    join_stated,
    parse_expression,
    read_header,
    read_manifest,
)
from codegemma.corpus.pipeline import build_corpus
from codegemma.recipe import ChoiceError, override
from codegemma.records import DroppedFile, SourceFile
from codegemma.shards import read_records

TEXTS = dict(LICENSES)
MIT = TEXTS["MIT"]


def test_every_notice_of_the_table_is_found_however_it_is_wrapped() -> None:
    for notice, license in licenses._load_names().notices:
        assert read_header("# " + notice.strip().upper().replace(" ", "\n#   ")) == license


def test_texts_of_installed_packages_are_what_their_metadata_says() -> None:
    """The independent reference: packages that state one licence and bring one text of it."""
    agreed, wrong = 0, []
    for package in metadata.distributions():
        stated = read_manifest("METADATA", package.read_text("METADATA") or "")
        texts = [f for f in package.files or () if ".dist-info" in str(f) and is_license_text(str(f))]
        if stated is None or re.search(r" |PSF|MIT-|LicenseRef", stated) or len(texts) != 1:
            continue
        found = identify_text(Path(str(package.locate_file(texts[0]))).read_text(encoding="utf-8", errors="replace"))
        agreed += stated in found
        if stated not in found:
            wrong.append((package.metadata["Name"], stated, found))
    assert agreed >= 20, wrong
    assert agreed / (agreed + len(wrong)) > 0.9, wrong


@pytest.mark.parametrize(
    ("header", "license"),
    [
        ("# SPDX-License-Identifier: MIT\n", "MIT"),
        (
            "/* SPDX-License-Identifier: GPL-2.0-or-later WITH Classpath-exception-2.0 */",
            "GPL-2.0-or-later WITH Classpath-exception-2.0",
        ),
        ("// SPDX-License-Identifier: MIT\n// SPDX-License-Identifier: GPL-2.0\n", "GPL-2.0-only AND MIT"),
        ("<!-- SPDX-License-Identifier: Apache-2.0 -->", "Apache-2.0"),
        ("# SPDX-License-Identifier: nonsense of ours\n", None),
        ("# SPDX-License-Identifier: NOASSERTION\n", None),
        ('print("# SPDX-License-Identifier: %s")\n', None),
        ("# SPDX-License-Identifier: LicenseRef-Acme\n", "LicenseRef-Acme"),
        ("# SPDX-License-Identifier: MIT OR LicenseRef-Acme-1.0\n", "MIT OR LicenseRef-Acme-1.0"),
        ("// SPDX-License-Identifier: Acme-Source-2.1\n", "LicenseRef-Acme-Source-2-1"),
        (" * Licensed under the Apache License,\n * Version 2.0 (the", "Apache-2.0"),
        (
            "# the GNU General Public License as published by\n# the Free Software Foundation, either version 3 of "
            "the License, or\n# (at your option) any later version.",
            "GPL-3.0-or-later",
        ),
        ("license = 'MIT'\n", None),
    ],
)
def test_headers(header: str, license: str | None) -> None:
    assert read_header(header) == license


@pytest.mark.parametrize(
    ("path", "content", "license"),
    [
        ("pyproject.toml", '[project]\nlicense = "MIT OR Apache-2.0"', "MIT OR Apache-2.0"),
        ("pyproject.toml", '[project]\nlicense = {text = "BSD"}', "BSD-3-Clause"),
        ("pyproject.toml", '[project]\nclassifiers = ["License :: OSI Approved :: ISC License (ISCL)"]', "ISC"),
        ("pyproject.toml", "[project", None),
        ("setup.cfg", "[metadata]\nlicense = Apache 2.0\n", "Apache-2.0"),
        ("package.json", '{"license": "(MIT OR GPL-3.0)"}', "MIT OR GPL-3.0-only"),
        ("package.json", '{"licenses": [{"type": "MIT"}, {"type": "Apache-2.0"}]}', "MIT OR Apache-2.0"),
        ("package.json", "[]", None),
        ("package.json", '{"license": {"type": 3}}', None),
        ("a/Cargo.toml", '[package]\nlicense = "MIT/Apache-2.0"', "MIT OR Apache-2.0"),
        (
            "pom.xml",
            "<licenses><license><name>The Apache License, Version 2.0</name></license></licenses>",
            "Apache-2.0",
        ),
        ("a.csproj", "<PackageLicenseExpression>MIT</PackageLicenseExpression>", "MIT"),
        ("PKG-INFO", "Metadata-Version: 2.4\nLicense-Expression: BSD-2-Clause\n\ntext", "BSD-2-Clause"),
    ],
)
def test_manifests(path: str, content: str, license: str | None) -> None:
    assert read_manifest(path, content) == license


def test_text_with_two_licences_names_both_and_a_similar_one_is_not_named() -> None:
    assert identify_text(TEXTS["BSD-3-Clause"] + "\n---\n" + TEXTS["Zlib"]) == ("BSD-3-Clause", "Zlib")
    for name in ("BSD-2-Clause", "BSD-3-Clause", "BSD-3-Clause-Clear", "0BSD", "ISC", "MIT", "EPL-1.0", "EPL-2.0"):
        assert identify_text(TEXTS[name]) == (name,)
    for name in ("GPL-2.0", "GPL-3.0", "AGPL-3.0", "LGPL-2.1", "LGPL-3.0"):
        assert identify_text(TEXTS[name]) == (f"{name}-only",)


def test_the_nearest_folder_speaks_and_a_manifest_before_a_text() -> None:
    folders = FolderLicenses()
    folders.add("LICENSE", MIT)
    folders.add("crates/one/Cargo.toml", '[package]\nlicense = "MIT OR Apache-2.0"')
    folders.add("crates/one/LICENSE", MIT)
    folders.add("crates/two/LICENSES/0BSD.txt", "nothing known")
    assert folders.find("src/main.rs") == "MIT"
    assert folders.find("crates/one/src/deep/lib.rs") == "MIT OR Apache-2.0"
    assert folders.find("crates/two/lib.rs") == "MIT"
    assert FolderLicenses().find("a.py") is None


@given(st.text(max_size=300))
def test_no_text_crashes_the_readers(text: str) -> None:
    read_header(text)
    read_header("SPDX-License-Identifier: " + text)
    parse_expression(text)
    identify_text(text)
    for name in ("pyproject.toml", "package.json", "Cargo.toml", "pom.xml", "setup.cfg", "METADATA", "x.csproj"):
        read_manifest(name, text)


@pytest.mark.parametrize(
    ("path", "start", "filling", "license"),
    [
        ("LICENSE", MIT, "copyright ", "MIT"),
        ("pom.xml", "", "<licenses>", None),
        ("pom.xml", "<licenses><name>", " ", None),
        ("a.csproj", "<PackageLicenseExpression>", " ", None),
        ("setup.cfg", "", "\n", None),
    ],
)
def test_a_statement_made_to_hold_up_its_reader_is_read_to_its_end(
    path: str, start: str, filling: str, license: str | None
) -> None:
    """Where reading takes the square or the cube of the length, one such file holds up the whole build."""
    folders = FolderLicenses()
    folders.add(path, (start + filling * MAX_STATEMENT_BYTES)[:MAX_STATEMENT_BYTES])
    assert folders.find("a.py") == license


@pytest.mark.parametrize("depth", [390, 5_000])
def test_an_expression_made_to_exhaust_the_stack_is_none(depth: int) -> None:
    text = "(" * depth + "MIT" + " OR ISC)" * depth
    assert parse_expression(text) is None
    assert read_header(f"# SPDX-License-Identifier: {text}\n") is None
    stated = join_stated((text,))
    assert stated is not None
    assert stated.startswith("LicenseRef-")
    assert not is_accepted(stated, expand_accepted(("permissive",)))


def test_accepted_licences() -> None:
    permissive = expand_accepted(("permissive",))
    for license in (
        "MIT",
        "GPL-3.0-only OR MIT",
        "Apache-2.0 WITH LLVM-exception",
        "MIT AND (BSD-3-Clause OR GPL-2.0-only)",
    ):
        assert is_accepted(license, permissive), license
    for license in (
        "GPL-3.0-only",
        "MIT AND GPL-2.0-only",
        "LicenseRef-proprietary",
        "GPL-2.0-only WITH Classpath-exception-2.0",
    ):
        assert not is_accepted(license, permissive), license
    with pytest.raises(ChoiceError, match="permisive"):
        override(CorpusChoices(), ["licenses=permisive"])


def test_every_file_whose_licence_is_not_accepted_is_dropped_and_named(tmp_path: Path) -> None:
    repo = write(
        tmp_path / "repo",
        {
            "LICENSE": MIT,
            "src/fine.py": "def fine(x):\n    return x + 1\n",
            "src/tagged.py": "# SPDX-License-Identifier: GPL-3.0-or-later\ndef tagged(x):\n    return x + 2\n",
            "gpl/package.json": '{"license": "AGPL-3.0"}',
            "gpl/inner/code.py": "def code(x):\n    return x + 3\n",
            "lib/either.py": "# SPDX-License-Identifier: GPL-3.0-or-later OR MIT\ndef either(x):\n    return x + 4\n",
        },
    )
    choices = CorpusChoices(licenses=("permissive",), heldout_share=0.0)
    report = build_corpus([repo], tmp_path / "out", choices)
    kept = {f.path: f.license for f in read_records(tmp_path / "out" / "files-train.parquet", SourceFile)}
    assert kept == {"src/fine.py": "MIT", "lib/either.py": "GPL-3.0-or-later OR MIT"}
    dropped = read_records(tmp_path / "out" / "dropped.parquet", DroppedFile)
    assert {(d.path, d.reason, d.detail) for d in dropped if d.stage == "license"} == {
        ("src/tagged.py", "not_accepted", "GPL-3.0-or-later"),
        ("gpl/inner/code.py", "not_accepted", "AGPL-3.0-only"),
    }
    assert [(row.license, row.files) for row in report.licenses] == [("GPL-3.0-or-later OR MIT", 1), ("MIT", 1)]


def test_unlicensed_files_are_kept_unless_chosen_otherwise(tmp_path: Path) -> None:
    repo = write(
        tmp_path / "repo",
        {"a/x.py": "def f(x):\n    return x\n", "b/LICENSE": MIT, "b/y.py": "def g(x):\n    return 2 * x\n"},
    )
    choices = CorpusChoices(heldout_share=0.0)
    assert build_corpus([repo], tmp_path / "all", choices).files_train == 2
    strict = override(choices, ["keep_unlicensed=false"])
    build_corpus([repo], tmp_path / "strict", strict)
    dropped = read_records(tmp_path / "strict" / "dropped.parquet", DroppedFile)
    assert [(d.path, d.reason) for d in dropped if d.stage == "license"] == [("a/x.py", "unknown")]
