"""A dropped copy is a reference: what imported it is linked to the file that stands for it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.corpus.repositories import write

from codegemma.corpus.choices import CorpusChoices, ExactDuplicatePolicy, NearDuplicatePolicy
from codegemma.corpus.pipeline import build_corpus
from codegemma.pack.choices import PackChoices
from codegemma.pack.imports import Edge
from codegemma.pack.pipeline import build_packs
from codegemma.pack.references import follow_copies
from codegemma.pack.report import SplitCount
from codegemma.records import Pack
from codegemma.runner import LocalRunner
from codegemma.shards import read_records

PYTHON = {
    "core/tools.py": "def trim(text):\n    return text.strip()\n",
    "plugin/extern/tools.py": "def trim(text):\n    return text.strip()\n",
    "plugin/app.py": "from plugin.extern.tools import trim\n\n\ndef run(x):\n    return trim(x) + 1\n",
}
CSHARP = {
    "Core/Tools.cs": "namespace Lib {\n    public class Tools { public int Trim(int x) { return x; } }\n}\n",
    "Plugin/Extern/Tools.cs": "namespace Lib {\n    public class Tools { public int Trim(int x) { return x; } }\n}\n",
    "Plugin/App.cs": "using Lib;\nnamespace App {\n    class App { int Run(Tools t) { return t.Trim(2); } }\n}\n",
}
LIBRARY = {"six.py": "def u(text):\n    return text + 'six'\n\n\ndef b(text):\n    return text.encode()\n"}
VENDORING = {
    "app/extern/six.py": LIBRARY["six.py"],
    "app/main.py": "from app.extern.six import u\n\nprint(u('main'))\n",
}
WHOLE = CorpusChoices(heldout_share=0.0)


def build(
    folder: Path, repos: dict[str, dict[str, str]], choices: CorpusChoices = WHOLE
) -> tuple[SplitCount, list[Pack]]:
    roots = [write(folder / name, dict(files)) for name, files in repos.items()]
    build_corpus(roots, folder / "out", choices)
    report = build_packs(folder / "out", folder / "out", PackChoices())
    return report.splits["train"], list(read_records(folder / "out/packs-train.parquet", Pack))


@pytest.mark.parametrize("files", [PYTHON, CSHARP], ids=["by_path", "by_namespace"])
def test_a_repository_that_vendors_a_library_keeps_its_edges(tmp_path: Path, files: dict[str, str]) -> None:
    count, packs = build(tmp_path, {"repo": files})
    assert (count.files_packed, count.edges, count.reference_edges, count.outside_edges) == (2, 1, 1, 0)
    assert count.colocated_edges["grouped"] == 1
    first, second = (file.path for file in packs[0].files)
    assert first.startswith(("core/", "Core/"))  # what is imported comes first
    assert second.startswith(("plugin/app", "Plugin/App"))


def test_an_import_whose_file_is_kept_in_another_repository_is_counted(tmp_path: Path) -> None:
    count, packs = build(tmp_path, {"a_library": LIBRARY, "b_vendoring": VENDORING})
    assert (count.edges, count.reference_edges, count.outside_edges) == (0, 0, 1)
    assert sorted(file.path for pack in packs for file in pack.files) == ["app/main.py", "six.py"]


def test_a_copy_of_another_repository_stays_where_a_text_may_stand_once_in_each(tmp_path: Path) -> None:
    choices = CorpusChoices(
        heldout_share=0.0,
        exact_duplicates=ExactDuplicatePolicy.WITHIN_REPOS,
        near_duplicates=NearDuplicatePolicy.NONE,
    )
    count, packs = build(
        tmp_path, {"a_library": LIBRARY, "b_vendoring": VENDORING | {"b.py": LIBRARY["six.py"]}}, choices
    )
    assert (count.edges, count.reference_edges, count.outside_edges) == (1, 0, 0)
    assert sum(len(pack.files) for pack in packs) == 3


def test_near_duplicates_must_not_drop_what_exact_ones_keep() -> None:
    with pytest.raises(ValueError, match="near_duplicates=none"):
        CorpusChoices(exact_duplicates=ExactDuplicatePolicy.WITHIN_REPOS)


def test_what_leads_imports_changes_the_packs_and_nothing_else_does(tmp_path: Path) -> None:
    _, packs = build(tmp_path, {"repo": PYTHON})
    corpus, out = tmp_path / "out", tmp_path / "again"
    assert not build_packs(corpus, out, PackChoices()).is_reused
    assert build_packs(corpus, out, PackChoices(), LocalRunner(2)).is_reused
    assert next(read_records(out / "packs-train.parquet", Pack)).pack_id == packs[0].pack_id
    (corpus / "references.parquet").unlink()
    assert build_packs(corpus, out, PackChoices()).splits["train"].edges == 0


PATHS = st.sampled_from("abcdef")
EDGES = st.dictionaries(st.tuples(PATHS, PATHS).filter(lambda ends: ends[0] != ends[1]), st.integers(1, 3)).map(
    lambda weights: [Edge(*ends, weight) for ends, weight in weights.items()]
)


@given(EDGES, st.dictionaries(st.sampled_from("def"), st.sampled_from(["a", "b", "c", None])))
def test_every_edge_is_followed_lost_or_met_by_another(edges: list[Edge], stand_ins: dict[str, str | None]) -> None:
    found = follow_copies(edges, stand_ins)
    assert not any(edge.imported in stand_ins or edge.importer == edge.imported for edge in found.edges)
    wanted = {(e.importer, stand_ins.get(e.imported, e.imported)) for e in edges}
    assert {(e.importer, e.imported) for e in found.edges} == {e for e in wanted if e[1] is not None and e[0] != e[1]}
    assert found.outside == sum(edge.imported in stand_ins and stand_ins[edge.imported] is None for edge in edges)
    kept = [e for e in edges if stand_ins.get(e.imported, e.imported) not in (None, e.importer)]
    assert sum(edge.weight for edge in found.edges) == sum(edge.weight for edge in kept)
