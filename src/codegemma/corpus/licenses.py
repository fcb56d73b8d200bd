"""Finds out under which licence a file stands: its own tag or notice, else its folder's manifest or licence text.

**In**: file headers, manifests, licence texts.
**Out**: SPDX expressions, and whether a list of accepted licences admits one.
**Not**: legal advice. What nothing speaks for is unknown (`None`), never guessed.

Texts are compared with those that the package `identify` carries (from choosealicense.com), by shared runs of words, so
that a file which holds several licences names all of them.
"""

import email.parser
import functools
import json
import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from codegemma.text.toml_source import read_toml

STAGE = "license"
NAMES_FILE = "license_names.toml"
# A tag or notice stands at the top of a file.
HEADER_CHARS = 4096
# Licence texts and manifests are shorter than this; the rest of a longer one is not looked at.
MAX_STATEMENT_BYTES = 200_000
_TAG = re.compile(r"SPDX-License-Identifier:[ \t]*([^\r\n*#<>\"']+)")
# An expression with more brackets is made to exhaust the stack of whoever goes through it.
_MAX_BRACKETS = 64
# What SPDX leaves to whoever writes a licence of his own.
_OWN = ("LicenseRef-", "DocumentRef-")
# Not prose about tags, nor a template's `%s`.
_UNKNOWN = re.compile(r"[A-Za-z0-9][\w.+:-]*")
_TEXT_FILE = re.compile(r"(?:un)?licen[sc]e|copying|notice", re.IGNORECASE)
_TEXT_SUFFIXES = ("", ".txt", ".md", ".rst", ".html")
_WORD = re.compile(r"[a-z0-9]+")
# Two patterns for one line, because one for both takes the square of a long line's length.
_COPYRIGHT = re.compile(r"\bcopyright\b")
_COPYRIGHT_YEAR = re.compile(r"\d{4}|\(c\)|©|\[year\]|<year>|yyyy")
_RUN_WORDS = 4
# Of a template's runs of words, those that a text must hold.
_MIN_SHARED = 0.85


@dataclass(frozen=True, slots=True)
class _Names:
    current: Mapping[str, str]
    names: Mapping[str, str]
    notices: tuple[tuple[str, str], ...]
    notice_words: frozenset[str]  # of which a text has one, if it has a notice
    lists: Mapping[str, frozenset[str]]


@functools.cache
def _load_names() -> _Names:
    table = tomllib.loads(resources.files(__package__).joinpath(NAMES_FILE).read_text(encoding="utf-8"))
    return _Names(
        current=table["current"],
        names=table["names"],
        notices=tuple((f" {row['text']} ", row["license"]) for row in table["notices"]),
        notice_words=frozenset(max(row["text"].split(), key=len) for row in table["notices"]),
        lists={name: frozenset(ids) for name, ids in table["lists"].items()},
    )


@functools.cache
def _load_licensing() -> Any:
    from license_expression import get_spdx_licensing  # reads a table of all licences: only who needs it pays

    return get_spdx_licensing()


# --- one file's own words ---------------------------------------------------------------------------------------------


def read_header(text: str) -> str | None:
    """Read the licence that a file names itself, by SPDX tag or by a well-known notice.

    A tag with one word that is no licence names one that nobody knows: it is not as if nothing were stated.

    >>> read_header("# SPDX-License-Identifier: mit OR Apache-2.0\\nx = 1\\n")
    'MIT OR Apache-2.0'
    >>> read_header("// Licensed under the Apache License, Version 2.0 (the")
    'Apache-2.0'
    """
    head = text[:HEADER_CHARS]
    tags = [found.removesuffix("-->").strip(" \t/") for found in _TAG.findall(head)]
    stated = [known for tag in tags if (known := parse_expression(tag) or _read_unknown(tag))]
    if stated:
        return join_licenses(stated)
    lowered, names = head.lower(), _load_names()
    # Most files have no notice; taking them apart word by word would cost most of reading them.
    if not any(word in lowered for word in names.notice_words):
        return None
    words = f" {' '.join(_WORD.findall(lowered))} "
    return next((license for notice, license in names.notices if notice in words), None)


def parse_expression(text: str) -> str | None:
    """Read an SPDX expression, or a name that is used in place of one; `None` if it is neither.

    >>> parse_expression("Apache License, Version 2.0"), parse_expression("see LICENSE")
    ('Apache-2.0', None)
    >>> parse_expression("(MIT OR GPL-2.0)"), parse_expression("LicenseRef-Acme")
    ('MIT OR GPL-2.0-only', 'LicenseRef-Acme')
    """
    known = _load_names()
    name = " ".join(_WORD.findall(text.lower()))
    if name in known.names:
        return known.names[name]
    if text.count("(") > _MAX_BRACKETS:
        return None
    from license_expression import ExpressionError

    licensing = _load_licensing()
    try:
        parsed = licensing.parse(text.strip())
        unknown = [] if parsed is None else licensing.unknown_license_keys(parsed)
    except (ExpressionError, ValueError, TypeError, AttributeError):  # the last two at odd text: "NOT", "()"
        return None
    if parsed is None or not all(key.startswith(_OWN) for key in unknown):
        return None
    spelled: str = parsed.render("{symbol.key}")
    for old, new in known.current.items():
        spelled = re.sub(rf"(?<![\w.-]){re.escape(old)}(?![\w.+-])", new, spelled)
    return spelled


def join_licenses(expressions: Iterable[str]) -> str | None:
    """Join what holds together: a file under two licences at once must satisfy both."""
    distinct = sorted(set(expressions))
    if len(distinct) < 2:
        return distinct[0] if distinct else None
    return " AND ".join(f"({e})" if " OR " in e else e for e in distinct)


@functools.lru_cache(maxsize=4096)
def join_stated(names: tuple[str, ...]) -> str | None:
    """Join what a row states: a file that stands under several licences must satisfy all; unknown names count.

    >>> join_stated(("mit", "Apache-2.0")), join_stated(("Acme Free",)), join_stated(())
    ('Apache-2.0 AND MIT', 'LicenseRef-Acme-Free', None)
    """
    stated = [parse_expression(name) or _name_unknown(name) for name in names if name.strip()]
    return join_licenses(stated)


def _read_unknown(tag: str) -> str | None:
    is_name = _UNKNOWN.fullmatch(tag) is not None and tag.upper() != "NOASSERTION"
    return _name_unknown(tag) if is_name else None


def _name_unknown(name: str) -> str:
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in name).split()
    return f"LicenseRef-{'-'.join(words)[:100] or 'unknown'}"


# --- licence texts ----------------------------------------------------------------------------------------------------


def is_license_text(path: str) -> bool:
    """Say whether a path looks like a licence text: LICENSE, COPYING.txt, LICENSES/MIT.txt.

    >>> [is_license_text(p) for p in ("pkg/LICENSE-MIT", "COPYING", "LICENSES/MIT.txt", "license.py")]
    [True, True, True, False]
    """
    folder, _, name = path.rpartition("/")
    is_in_licenses = folder.rpartition("/")[2] == "LICENSES"
    if not is_in_licenses and not _TEXT_FILE.match(name):  # as good as every file
        return False
    suffix = PurePosixPath(name).suffix
    # What stands after a point may be a version: LICENSE-2.0.
    return suffix == ".txt" if is_in_licenses else suffix.lower() in _TEXT_SUFFIXES or suffix[1:].isdigit()


def identify_text(text: str) -> tuple[str, ...]:
    """Name the licences whose texts stand in `text`, the longest first.

    >>> identify_text("Use it as you like.")
    ()
    """
    runs = _count_runs(text)
    candidates = {
        spdx: template for spdx, template in _load_templates() if len(template & runs) >= _MIN_SHARED * len(template)
    }
    found = [
        spdx
        for spdx, template in candidates.items()
        if not any(_is_shadowed(template, other, runs) for name, other in candidates.items() if name != spdx)
    ]
    return tuple(sorted(found, key=lambda spdx: (-len(candidates[spdx]), spdx)))


def _is_shadowed(template: frozenset[int], other: frozenset[int], runs: frozenset[int]) -> bool:
    """Say whether it is the other, similar licence that stands in the text: BSD-2-Clause stands within BSD-3-Clause."""
    own, others_own = template - other, other - template
    if 2 * len(own) > len(template):
        return False
    return _share(own, runs) < _share(others_own, runs)


def _share(part: frozenset[int], runs: frozenset[int]) -> float:
    return len(part & runs) / len(part) if part else 0.0


@functools.cache
def _load_templates() -> tuple[tuple[str, frozenset[int]], ...]:
    from identify.vendor.licenses import LICENSES

    current = _load_names().current
    return tuple((current.get(spdx, spdx), _count_runs(text)) for spdx, text in LICENSES)


def _count_runs(text: str) -> frozenset[int]:
    words = _WORD.findall("\n".join(line for line in text.lower().split("\n") if not _names_holder(line)))
    return frozenset(hash(tuple(words[i : i + _RUN_WORDS])) for i in range(len(words) - _RUN_WORDS + 1))


def _names_holder(line: str) -> bool:
    found = _COPYRIGHT.search(line)
    return found is not None and _COPYRIGHT_YEAR.search(line, found.end()) is not None


# --- manifests --------------------------------------------------------------------------------------------------------


def _read_pyproject(content: str) -> list[str]:
    project = read_toml(content).get("project", {})
    stated = project.get("license")
    if isinstance(stated, Mapping):
        stated = stated.get("text")
    return _read_stated(stated, project.get("classifiers", ()))


def _read_cargo(content: str) -> list[str]:
    stated = read_toml(content).get("package", {}).get("license")
    # Crates of old wrote "MIT/Apache-2.0" for a choice.
    return [stated.replace("/", " OR ")] if isinstance(stated, str) else []


def _read_package_json(content: str) -> list[str]:
    package = json.loads(content)
    stated = package.get("license", package.get("licenses"))
    rows = stated if isinstance(stated, list) else [stated]
    named = [row.get("type") if isinstance(row, Mapping) else row for row in rows]
    return [" OR ".join(name for name in named if isinstance(name, str))]


def _read_pom(content: str) -> list[str]:
    block, end, _ = content.partition("<licenses>")[2].partition("</licenses>")
    return re.findall(r"<name>([^<]+)</name>", block) if end else []


def _read_msbuild(content: str) -> list[str]:
    return re.findall(r"<PackageLicenseExpression>([^<]+)<", content)


def _read_metadata(content: str) -> list[str]:
    message = email.parser.HeaderParser().parsestr(content)
    return _read_stated(message.get("License-Expression") or message.get("License"), message.get_all("Classifier", []))


def _read_setup_cfg(content: str) -> list[str]:
    stated = re.search(r"^license(?:_expression)?\s*=\s*(.+)$", content, re.MULTILINE)
    return _read_stated(stated and stated.group(1), re.findall(r"^[ \t]*(License :: .+)$", content, re.MULTILINE))


def _read_stated(stated: Any, classifiers: Iterable[str]) -> list[str]:
    """Prefer what is stated over the classifiers, which cannot tell versions apart."""
    if isinstance(stated, str) and parse_expression(stated):
        return [stated]
    return [c.rpartition(" :: ")[2] for c in classifiers if c.startswith("License ::") and c.count(" :: ") > 1]


_MANIFESTS: Mapping[str, Callable[[str], list[str]]] = {
    "pyproject.toml": _read_pyproject,
    "setup.cfg": _read_setup_cfg,
    "PKG-INFO": _read_metadata,
    "METADATA": _read_metadata,
    "package.json": _read_package_json,
    "Cargo.toml": _read_cargo,
    "pom.xml": _read_pom,
}


def _find_reader(path: str) -> Callable[[str], list[str]] | None:
    name = path.rpartition("/")[2]
    return _read_msbuild if name.endswith((".csproj", ".nuspec")) else _MANIFESTS.get(name)


def speaks_of_license(path: str) -> bool:
    """Say whether a file may tell the licence of its folder."""
    return is_license_text(path) or _find_reader(path) is not None


def read_manifest(path: str, content: str) -> str | None:
    """Read the licence that a manifest states; one that does not parse states none.

    >>> read_manifest("crate/Cargo.toml", '[package]\\nlicense = "MIT/Apache-2.0"')
    'MIT OR Apache-2.0'
    >>> read_manifest("package.json", '{"license": "SEE LICENSE IN file"}') is None
    True
    """
    reader = _find_reader(path)
    if reader is None:
        return None
    try:
        stated = [parse_expression(name) for name in reader(content)]
    except (ValueError, AttributeError, TypeError, RecursionError):
        return None
    return join_licenses(name for name in stated if name is not None)


# --- folders ----------------------------------------------------------------------------------------------------------


class FolderLicenses:
    """Which licence each folder of a repository states; a folder that states none has its parent's."""

    def __init__(self) -> None:
        """Start with no folder known."""
        self._texts: defaultdict[str, list[str]] = defaultdict(list)
        self._manifests: defaultdict[str, list[str]] = defaultdict(list)
        # What was found for a folder, until another text or manifest is taken in.
        self._found: dict[str, str | None] = {}

    def add(self, path: str, content: str) -> None:
        """Take in a licence text or a manifest."""
        folder = PurePosixPath(path).parent
        if not is_license_text(path):
            found, kind = read_manifest(path, content), self._manifests
        else:
            found, kind = join_licenses(identify_text(content)) or read_header(content), self._texts
            # REUSE keeps the texts one folder down from what they speak for.
            folder = folder.parent if folder.name == "LICENSES" else folder
        if found is not None:
            kind[str(folder)].append(found)
            self._found.clear()

    def find(self, path: str) -> str | None:
        """Find what speaks for a file: the nearest folder's manifests, else its licence texts."""
        folder = path.rpartition("/")[0]
        if folder not in self._found:
            self._found[folder] = self._find(path)
        return self._found[folder]

    def _find(self, path: str) -> str | None:
        for folder in map(str, PurePosixPath(path).parents):
            # A manifest says how several texts go together: by choice, or all at once.
            for kind in (self._manifests, self._texts):
                if folder in kind:
                    return join_licenses(kind[folder])
        return None


# --- policy -----------------------------------------------------------------------------------------------------------


@functools.cache
def expand_accepted(accepted: tuple[str, ...]) -> frozenset[str]:
    """Replace the names of lists by their licences.

    Raises:
        ValueError: neither a list nor an SPDX identifier.
    """
    known = _load_names()
    expanded: set[str] = set()
    for name in accepted:
        if name in known.lists:
            expanded |= known.lists[name]
        elif name.startswith("LicenseRef-"):
            expanded.add(name)
        elif (license := parse_expression(name)) is not None and " " not in license:
            expanded.add(license)
        else:
            raise ValueError(f"{name!r} is neither an SPDX identifier nor one of the lists {', '.join(known.lists)}")
    return frozenset(expanded)


@functools.lru_cache(maxsize=4096)
def is_accepted(expression: str, accepted: frozenset[str]) -> bool:
    """Say whether an expression can be satisfied by accepted licences alone; an exception only adds permissions.

    >>> is_accepted("MIT OR GPL-3.0-only", frozenset({"MIT"})), is_accepted("MIT AND GPL-3.0-only", frozenset({"MIT"}))
    (True, False)
    """
    return _is_satisfied(_load_licensing().parse(expression), accepted)


def _is_satisfied(node: Any, accepted: frozenset[str]) -> bool:
    if hasattr(node, "license_symbol"):  # a licence WITH an exception
        return _is_satisfied(node.license_symbol, accepted)
    if not node.args:
        return node.key in accepted
    satisfied = (_is_satisfied(part, accepted) for part in node.args)
    return any(satisfied) if node.operator.strip() == "OR" else all(satisfied)
