"""Reads the thresholds of the quality rules, language by language.

**In**: `quality_rules.toml`, or an operator's file of the same form.
**Out**: `QualityRules`: the `Thresholds` of each language, and the digest that names them in a report.
**Not**: measuring; that is `quality.py`'s.
"""

import dataclasses
import functools
import hashlib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from codegemma.errors import InputError
from codegemma.records import SourceFile, SourceKind
from codegemma.text.languages import DOCUMENT_LANGUAGES, LANGUAGES

RULES_FILE = "quality_rules.toml"
DEFAULT = "default"
# Formats with thresholds of their own that are no programming language.
FORMATS = ("dot", "html", "json", "markdown", "math", "owl", "roff", "smt", "synthetic", "tex", "text", "xml", "yaml")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What one language allows; `quality_rules.toml` explains the fields. These defaults refuse nothing."""

    generated_lines: int = 0
    xml_head_chars: int = 0
    max_lines: float = math.inf
    max_line_chars: float = math.inf
    max_mean_line_chars: float = math.inf
    min_alphabetic_share: float = 0.0
    max_encoded_run_chars: float = math.inf
    max_encoded_share: float = math.inf
    max_digit_share: float = math.inf
    min_space_share: float = 0.0
    min_mean_word_chars: float = 0.0
    min_visible_share: float = 0.0
    min_visible_chars: float = 0.0
    min_words: int = 0
    min_word_chars: float = 0.0
    max_word_chars: float = math.inf
    min_alphabetic_word_share: float = 0.0
    min_stop_words: int = 0
    max_symbols_per_word: float = math.inf
    max_bullet_line_share: float = 1.0
    max_ellipsis_line_share: float = 1.0
    min_punctuated_line_share: float = 0.0
    max_short_line_share: float = 1.0
    max_boilerplate_line_share: float = 1.0
    max_repeated_line_share: float = 1.0
    max_common_run_shares: tuple[float, ...] = ()
    max_repeated_run_shares: tuple[float, ...] = ()


# The kinds whose documents have one table, in whatever language they are spelled.
_TABLE_OF_KIND = MappingProxyType({SourceKind.MATHEMATICS: "math", SourceKind.SYNTHETIC: "synthetic"})


@dataclass(frozen=True, slots=True)
class QualityRules:
    """The thresholds of every language. `origin` is the file's name, or `None` for our own table."""

    by_language: Mapping[str, Thresholds]
    origin: str | None
    digest: str

    def of(self, language: str) -> Thresholds:
        """Give a language's thresholds, or those of every language where it has none of its own."""
        return self.by_language.get(language, self.by_language[DEFAULT])

    def of_file(self, file: SourceFile) -> Thresholds:
        """Give the thresholds of a file: of code, whoever wrote it, its language's; of a document, its kind's."""
        is_document = file.language in DOCUMENT_LANGUAGES
        return self.of(_TABLE_OF_KIND.get(file.kind, file.language) if is_document else file.language)

    def describe(self) -> str:
        """Say in a report which rules were used."""
        whose = "our own table" if self.origin is None else self.origin
        return f"quality rules: {whose}, digest {self.digest}"


def load_quality_rules(path: str | None = None) -> QualityRules:
    """Read a file of thresholds, or our own table.

    >>> load_quality_rules().of("json").max_lines, load_quality_rules().of("python").max_lines
    (512, 100000)

    Raises:
        InputError: it cannot be read, or a key or value in it is none of ours; table and key are named.
    """
    if path is None:
        return _load_own()
    try:
        return _parse(Path(path).read_bytes(), Path(path).name, path)
    except OSError as error:
        raise InputError(f"{path}: the quality rules cannot be read ({error.strerror})") from error


@functools.cache
def _load_own() -> QualityRules:
    return _parse(resources.files("codegemma.corpus").joinpath(RULES_FILE).read_bytes(), None, RULES_FILE)


def _parse(content: bytes, origin: str | None, path: str) -> QualityRules:
    try:
        tables = tomllib.loads(content.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no TOML: {error}") from error
    known = {DEFAULT, *LANGUAGES, *FORMATS}
    for name, table in tables.items():
        if name not in known or not isinstance(table, dict):
            raise InputError(f"{path}: [{name}] names no language; known: {', '.join(sorted(known))}")
    shared = tables.get(DEFAULT, {})
    rules = {
        name: _make_thresholds({**shared, **tables.get(name, {})}, f"{path}: [{name}]") for name in {DEFAULT, *tables}
    }
    return QualityRules(rules, origin, hashlib.sha256(content).hexdigest()[:16])


def _make_thresholds(row: Mapping[str, Any], where: str) -> Thresholds:
    kinds = {item.name: type(item.default) for item in dataclasses.fields(Thresholds)}
    values: dict[str, Any] = {}
    for key, value in row.items():
        if key not in kinds:
            raise InputError(f"{where}: unknown key {key!r}; known: {', '.join(kinds)}")
        is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if kinds[key] is tuple:
            is_right, wanted = isinstance(value, list) and all(map(_is_number, value)), "a list of numbers"
        elif kinds[key] is int:
            is_right, wanted = is_whole, "a whole number"
        else:
            is_right, wanted = _is_number(value), "a number, or inf for none"
        if not is_right:
            raise InputError(f"{where}: {key} = {value!r}; wanted {wanted}")
        values[key] = tuple(value) if isinstance(value, list) else value
    return Thresholds(**values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
