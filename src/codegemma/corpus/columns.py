"""Which column of a table of files holds what.

**In**: the names of a table's columns; the user's own mapping, `role=column`.
**Out**: one column for each role, or what was found and what was wanted.
**Not**: reading the table (`parquet.py`).

Known without a mapping: The Stack v1 and StarCoderData (`max_stars_repo_*`), The Stack v2 once its contents are there,
GitHub Code (`code`, `repo_name`), the files that this project writes, and documents (`text` without a path, as in
OpenWebMath).
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

# The first of these that a table has is taken.
KNOWN_COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "content": ("content", "code", "text"),
        "path": ("path", "max_stars_repo_path", "file_path", "filepath"),
        "repo": ("repo", "repo_name", "max_stars_repo_name", "repository"),
        "license": ("license", "licenses", "max_stars_repo_licenses", "detected_licenses"),
        "commit": ("commit", "revision_id", "max_stars_repo_head_hexsha"),
        "language": ("language", "lang"),
        "size": ("size_bytes", "length_bytes", "size"),
    }
)
# A table with this column and no paths is one of documents.
DOCUMENT_COLUMN = "text"
OPTION = "corpus.parquet_columns"


def parse_columns(pairs: Sequence[str]) -> dict[str, str]:
    """Read a mapping.

    >>> parse_columns(["content=body", "path=file"])
    {'content': 'body', 'path': 'file'}

    Raises:
        ValueError: not `role=column`, an unknown role, or a role given twice.
    """
    mapping: dict[str, str] = {}
    for pair in pairs:
        role, _, column = (part.strip() for part in pair.partition("="))
        if role not in KNOWN_COLUMNS or not column or role in mapping:
            roles = ", ".join(KNOWN_COLUMNS)
            raise ValueError(f"parquet_columns: {pair!r}; wanted role=column, each role once, of the roles {roles}")
        mapping[role] = column
    return mapping


def choose_columns(found: Sequence[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Choose a column for each role that the table has one for.

    >>> choose_columns(["code", "path", "stars"], {})
    {'content': 'code', 'path': 'path'}

    Without a path, it is a table of documents, whose contents must be called `text`.

    Raises:
        ValueError: no column for a content or a path, or a named column that is not there; it lists what was found.
    """
    chosen = {}
    for role, known in KNOWN_COLUMNS.items():
        wanted = (mapping[role],) if role in mapping else known
        column = next((name for name in wanted if name in found), None)
        if column is not None:
            chosen[role] = column
        elif role in mapping or role == "content" or (role == "path" and chosen["content"] != DOCUMENT_COLUMN):
            raise ValueError(_explain(role, wanted, found))
    return chosen


def _explain(role: str, wanted: Sequence[str], found: Sequence[str]) -> str:
    came = ", ".join(found) or "none"
    hint = f"name it with {OPTION}={role}=COLUMN"
    if role == "content" and "blob_id" in found:
        hint = "The Stack v2 itself holds no contents: put them beside the blob_id in a column `content` first"
    return f"no column for the {role}: wanted {' or '.join(wanted)}; found {came}; {hint}"
