"""Makes the table of docs/plan.md: every row the real step, compiled for chips that are not here.

    make plan-table

**In**: the rows named below; what was compiled before, in docs/plan-rows.jsonl.
**Out**: that file, a line a row as soon as it is known, and the table between the marks in docs/plan.md.
**Not**: a row whose program, by its hash, and whose compiler are those of the line that is there: it is kept.

A row takes one to two minutes on two quiet cores and 2 GiB; interrupted, the same command goes on. `--only TEXT` makes
the rows whose name holds the text; the table then shows the others as they were.
"""

import argparse
import dataclasses
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple, cast

os.environ["JAX_PLATFORMS"] = "cpu"

from codegemma.cli.plan import describe_plan
from codegemma.recipes import load_recipe
from codegemma.train.ahead import compile_step, list_versions, lower_step
from codegemma.train.chips import read_topology

DOCS = Path(__file__).parents[1] / "docs"
ROWS_FILE, PAGE = DOCS / "plan-rows.jsonl", DOCS / "plan.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
GIB = 2**30
WHOLE_ROW = 8192


class Row(NamedTuple):
    """A step to compile; `studied` is the peak (GiB a chip) of a throw-away step compiled for the same, or `None`."""

    model: str
    topology: str
    chunk: int = 512
    remat: str = "full"
    rows_a_chip: int = 1
    mesh: tuple[int, int, int] = (1, -1, 1)
    studied: float | None = None
    fits: bool | None = None

    @property
    def name(self) -> str:
        """Spell the row shortly."""
        mesh = "" if self.mesh == (1, -1, 1) else f" mesh {self.mesh[0]}"
        return f"{self.model} {self.topology} {self.remat} x{self.rows_a_chip} chunk {self.chunk}{mesh}"


# The slices of a v5e, then the other steps of the training study (2.2), with its peaks and verdicts.
ROWS = (
    Row("2b", "v5e:4x4", 1024, studied=6.71, fits=True),
    Row("2b", "v5e:2x2", studied=14.14, fits=True),
    Row("7b", "v5e:4x4", studied=14.15, fits=True),
    Row("2b", "v5e:4x4", 1024, "qkvo", studied=7.97, fits=True),
    Row("2b", "v5e:16x16", 512, "qkvo", studied=5.33, fits=True),
    Row("7b", "v5e:16x16", studied=6.67, fits=True),
    Row("2b", "v5e:2x4", studied=9.18, fits=True),
    Row("7b", "v5e:4x8", studied=9.83, fits=True),
    Row("7b", "v5e:2x2"),
    Row("7b", "v5e:2x4"),
    Row("2b", "v5e:4x8"),
    Row("2b", "v5e:8x16"),
    Row("2b", "v5e:16x16"),
    Row("7b", "v5e:8x16"),
    Row("7b", "v5e:16x16", 512, "qkvo", 2, fits=False),
    Row("2b", "v5e:4x4", WHOLE_ROW * 2, "full", 2, fits=False),
    Row("7b", "v5e:16x16", 512, "qkvo", studied=14.27, fits=True),
    Row("2b", "v5e:4x4", 512, "qkvo", 2, studied=11.45, fits=True),
    Row("2b", "v5e:4x4", 512, "offload", 2, studied=8.53, fits=True),
    Row("2b", "2*v5e:4x4", 512, "qkvo", mesh=(2, -1, 1), studied=6.91, fits=True),
    Row("2b", "v5e:16x16", 512, "qkvo", 2, (16, -1, 1), studied=10.73, fits=True),
    Row("2b", "v5e:4x4", WHOLE_ROW, studied=14.52, fits=True),
)  # fmt: skip


def compile_row(row: Row, known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Compile a row, or keep what is known of the same program."""
    recipe = load_recipe({"2b": "codegemma_2b", "7b": "codegemma_7b"}[row.model])
    topology = read_topology(row.topology)
    choices = dataclasses.replace(
        recipe.train, batch_rows=row.rows_a_chip * topology.chips, row_tokens=WHOLE_ROW, remat=cast(Any, row.remat),
        loss_chunk_tokens=row.chunk, mesh=row.mesh,
    )  # fmt: skip
    traced = lower_step(recipe.model, choices, topology)
    key = {"program_hash": traced.program_hash, "versions": list_versions()}
    before = known.get(row.name)
    if before is not None and {name: before[name] for name in key} == key:
        return before
    result = describe_plan(compile_step(recipe.model, choices, topology, traced), row.model)
    # What a step runs is in the totals; the whole list is what `codegemma plan --json` is for.
    result["collectives"] = result.get("collectives", [])[:3]
    return {"name": row.name} | result | key


def read_rows() -> dict[str, dict[str, Any]]:
    """Read what is known, by the names of the rows."""
    if not ROWS_FILE.exists():
        return {}
    lines = [json.loads(line) for line in ROWS_FILE.read_text(encoding="utf-8").splitlines() if line]
    return {line["name"]: line for line in lines}


def write_rows(known: dict[str, dict[str, Any]]) -> None:
    """Write what is known, in the order of the table."""
    lines = [json.dumps(known[row.name]) for row in ROWS if row.name in known]
    ROWS_FILE.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def format_table(known: dict[str, dict[str, Any]]) -> str:
    """Spell the table, and XLA's words about what does not fit."""
    head = ("model", "slice", "rows a chip", "remat", "chunk", "state", "peak", "study", "sent a step", "bound",
            "at MFU", "500 B tokens", "program")  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    misfits = []
    for row in ROWS:
        about = known.get(row.name)
        if about is not None:
            lines.append("| " + " | ".join(format_cells(row, about)) + " |")
            if not about["fits"]:
                misfits.append(f"- {row.name}: `{about['reason']}`")
    versions = sorted({", ".join(f"{n} {v}" for n, v in about["versions"].items()) for about in known.values()})
    compiled = f"Compiled with {'; '.join(versions)}: {len(known)} of {len(ROWS)} rows."
    words = ["", "What does not fit, in XLA's words:", "", *misfits] if misfits else []
    return "\n".join([compiled, "", *lines, *words])


def format_cells(row: Row, about: dict[str, Any]) -> list[str]:
    """Spell the cells of a row."""
    where = row.topology + ("" if row.mesh == (1, -1, 1) else f" data {row.mesh[0]}")
    chosen = [row.model.upper(), where, str(row.rows_a_chip), row.remat, str(row.chunk)]
    studied = "misfit" if row.fits is False else "–" if row.studied is None else f"{row.studied:.2f}"
    if not about["fits"]:
        return [*chosen, "", "**does not fit**", studied, "", "", "", "", f"`{about['program_hash']}`"]
    state = (about["memory"]["parameters"] + about["memory"]["optimizer"]) / GIB
    host = f" + {about['host_bytes'] / GIB:.2f} host" if about["host_bytes"] else ""
    sent = sum(about["moved_bytes_by_collective"].values()) / GIB
    dollars = about["dollars"]["5e+11"]
    return [
        *chosen, f"{state:.2f}", f"**{about['peak_bytes'] / GIB:.2f}**{host}", studied, f"{sent:.1f}",
        f"{about['bound_tokens_per_s'] / 1e3:,.0f} k", f"{about['tokens_per_s_at_published_mfu'] / 1e3:,.0f} k",
        f"{about['days']['5e+11']:,.1f} d, ${dollars / 1e3:,.0f} k", f"`{about['program_hash']}`",
    ]  # fmt: skip


def write_page(known: dict[str, dict[str, Any]]) -> None:
    """Put the table between its marks."""
    text = PAGE.read_text(encoding="utf-8")
    body = f"{BEGIN}\n\n{format_table(known)}\n\n{END}"
    PAGE.write_text(re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: body, text, flags=re.DOTALL), "utf-8")


def check_verdicts(known: dict[str, dict[str, Any]]) -> list[str]:
    """List where a row differs from the study: another verdict, or more than 1.05 times its peak."""
    wrong = []
    for row in ROWS:
        about = known.get(row.name)
        if about is None:
            continue
        if row.fits is not None and about["fits"] != row.fits:
            wrong.append(f"{row.name}: fits {about['fits']}, the study's {row.fits}")
        if row.studied and about["fits"] and about["peak_bytes"] / GIB > 1.05 * row.studied:
            wrong.append(f"{row.name}: peak {about['peak_bytes'] / GIB:.2f} GiB, the study's {row.studied:.2f}")
    return wrong


def main() -> int:
    """Compile what is not known, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="make only the rows whose name holds this")
    only = parser.parse_args().only
    known = read_rows()
    for row in ROWS:
        if only in row.name:
            known[row.name] = compile_row(row, known)
            write_rows(known)
            write_page(known)
            about = known[row.name]
            told = f"peak {about['peak_bytes'] / GIB:.2f} GiB" if about["fits"] else "does not fit"
            print(f"{row.name}: {told}, program {about['program_hash']}", flush=True)
    wrong = check_verdicts(known)
    print("\n".join(wrong) or "every row agrees with the study")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
