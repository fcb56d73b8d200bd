"""Tables, plots and code to one self-contained HTML page; every report of the project is made here.

**In**: headings, text, tables with intervals, completions, series; a caption for each says what to see in it.
**Out**: one file without any outside resource, for a phone, a desk or paper, light or dark; equal input, equal bytes.
**Not**: figures: who calls has computed them.
"""

import html
import io
import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Protocol

from codegemma.files import write_whole

# Plots are drawn in these colours, which are then replaced by the style sheet's, so that they follow the scheme.
INK, MUTED, GRID = "#010101", "#020202", "#030303"
SERIES = ("#101010", "#101011", "#101012", "#101013", "#101014", "#101015")
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid"} | {c: f"--series-{i}" for i, c in enumerate(SERIES)}
# Told apart without colour as well.
DASHES = ((), (5, 2), (1.5, 1.5), (7, 2, 1.5, 2), (3, 3), (9, 3))
PLOT_WIDTH_INCHES, PLOT_HEIGHT_INCHES = 5.2, 2.7
BAR_HEIGHT_INCHES = 0.29
FONT_POINTS = 9.5
_BARS: dict[str, Any] = {
    "color": SERIES[0], "height": 0.66, "error_kw": {"ecolor": INK, "elinewidth": 1.1, "capsize": 2.5}
}  # fmt: skip
THIN_SPACE = "\u202f"
LEGEND_MIN_SERIES = 2
CONTENTS_MIN_SECTIONS = 3


class MeanWithBounds(Protocol):
    """What an estimate is made of, such as `evals.statistics.Interval`."""

    @property
    def mean(self) -> float: ...  # noqa: D102
    @property
    def low(self) -> float | None: ...  # noqa: D102
    @property
    def high(self) -> float | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval; without one, the page says so."""

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, found: MeanWithBounds, scale: float = 1) -> "Estimate":
        """Take a mean and its interval, `scale` times."""
        low, high = (None if bound is None else scale * bound for bound in (found.low, found.high))
        return cls(scale * found.mean, low, high)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its title with the unit, the digits after the point, and what numbers are multiplied by."""

    title: str
    digits: int = 2
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Series:
    """A named line of a plot."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


class Report:
    """A page that grows from top to bottom.

    >>> report = Report("Held-out holes")
    >>> report.section("Exact match")
    >>> report.table(["system", Column("match, %", 1, 100)], [["model", Estimate(0.25, 0.2, 0.3)]], "More is better.")
    >>> "25.0" in report.render() and "20.0 to 30.0" in report.render()
    True
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        """Begin a page."""
        self._title, self._subtitle = title, subtitle
        self._sections: list[str] = []
        self._parts: list[str] = []
        self._plots = 0

    def section(self, title: str) -> None:
        """Begin a section."""
        self._parts.append(f'<h2 id="s{len(self._sections)}">{_inline(title)}</h2>')
        self._sections.append(title)

    def text(self, paragraph: str) -> None:
        """Add a paragraph; what stands between back ticks is set as code."""
        self._parts.append(f"<p>{_inline(paragraph)}</p>")

    def numbers(self, tiles: Sequence[tuple[str, str, str]]) -> None:
        """Add the few figures that matter most: label, value with its unit, a note below."""
        cells = [
            f'<div><dt>{_inline(label)}</dt><dd class="value">{_inline(value)}</dd>'
            f'<dd class="note">{_inline(note)}</dd></div>'
            for label, value, note in tiles
        ]
        self._parts.append(f'<dl class="numbers">{"".join(cells)}</dl>')

    def table(
        self,
        columns: Sequence[str | Column],
        rows: Sequence[Sequence[Any]],
        caption: str,
        strong_rows: Collection[int] = (),
    ) -> None:
        """Add a table; a cell is text, a number, an `Estimate`, or `None` where there is nothing to say.

        Raises:
            ValueError: a row with more or fewer cells than columns.
        """
        kinds = [Column(column) if isinstance(column, str) else column for column in columns]
        is_number = [any(isinstance(row[i], (int, float, Estimate)) for row in rows) for i in range(len(kinds))]
        head = "".join(_tag("th", _inline(kind.title), n) for kind, n in zip(kinds, is_number, strict=True))
        body = [
            ('<tr class="strong">' if index in strong_rows else "<tr>")
            + "".join(_tag("td", _format_cell(c, k), n) for c, k, n in zip(row, kinds, is_number, strict=True))
            + "</tr>"
            for index, row in enumerate(rows)
        ]
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
        self._figure(f'<div class="scroll">{table}</div>', caption)

    def code(self, text: str, caption: str = "") -> None:
        """Add a block of code, escaped and unchanged."""
        self._figure(f"<pre>{_escape(text)}</pre>", caption)

    def completion(self, place: str, before: str, written: str, truth: str, after: str) -> None:
        """Show what a model wrote at a cursor between its surroundings, and the truth where it differs."""
        is_match = written.rstrip() == truth.rstrip()
        verdict = "as in the file" if is_match else "differs from the file"
        mark, kind = ("ins", " match") if is_match else ("del", "")
        shown = _escape(written) or "&nbsp;"
        block = (
            f'<div class="place"><code>{_escape(place)}</code><span class="verdict{kind}">{verdict}</span></div>'
            f'<pre class="wrapped"><span class="around">{_escape(before)}</span><{mark}>{shown}</{mark}>'
            f'<span class="around">{_escape(after)}</span></pre>'
        )
        if not is_match:
            block += f'<p class="truth">In the file: <code>{_escape(truth)}</code></p>'
        self._figure(block, "")

    def fold(self, title: str, panes: Sequence[tuple[str, str]]) -> None:
        """Add a line that opens to texts side by side, each under its name, escaped and unchanged."""
        blocks = "".join(f"<div><h4>{_inline(name)}</h4><pre>{_escape(text)}</pre></div>" for name, text in panes)
        self._parts.append(f'<details><summary>{_inline(title)}</summary><div class="beside">{blocks}</div></details>')

    def lines(
        self, series: Sequence[Series], x_label: str, y_label: str, caption: str, *, is_y_log: bool = False
    ) -> None:
        """Add a line plot; labels carry the units."""
        figure, axes = _start_plot(x_label, y_label)
        for index, line in enumerate(series):
            style = {"color": SERIES[index % len(SERIES)], "dashes": DASHES[index % len(DASHES)]}
            axes.plot(line.x, line.y, linewidth=1.7, marker="o" if len(line.x) == 1 else "", **style)
        if is_y_log:
            axes.set_yscale("log")
        self._plot(figure, [line.name for line in series], caption)

    def bars(self, values: Mapping[str, float | Estimate], x_label: str, caption: str, digits: int = 0) -> None:
        """Add horizontal bars in the given order, each with its value, and its interval where it has one."""
        figure, axes = _start_plot(x_label, "", 0.75 + BAR_HEIGHT_INCHES * max(len(values), 1), grid="x")
        means = [value.value if isinstance(value, Estimate) else value for value in values.values()]
        drawn = axes.barh(range(len(values)), means, xerr=_find_spreads(values.values()), **_BARS)
        labels = [_format_number(mean, digits) for mean in means]
        axes.bar_label(drawn, labels, padding=4, color=INK, fontsize=FONT_POINTS)
        axes.set_yticks(range(len(values)), [_plain(name) for name in values])
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        self._plot(figure, [], caption)

    def differences(self, values: Mapping[str, Estimate], x_label: str, caption: str) -> None:
        """Add differences as points with intervals, in the given order, beside a line at 0; decided ones are full."""
        figure, axes = _start_plot(x_label, "", 0.75 + BAR_HEIGHT_INCHES * max(len(values), 1), grid="x")
        axes.axvline(0, color=MUTED, linewidth=1)
        for place, value in enumerate(values.values()):
            low, high = (value.value if end is None else end for end in (value.low, value.high))
            fill = {} if low > 0 or high < 0 else {"markerfacecolor": "none"}
            axes.hlines(place, low, high, color=INK, linewidth=1.1)
            axes.plot(value.value, place, "o", color=SERIES[0], markersize=5, **fill)
        axes.set_yticks(range(len(values)), [_plain(name) for name in values])
        axes.invert_yaxis()
        axes.margins(x=0.08)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        self._plot(figure, [], caption)

    def histogram(
        self,
        samples: Mapping[str, Sequence[float]],
        edges: Sequence[float],
        x_label: str,
        caption: str,
        *,
        is_x_log: bool = False,
    ) -> None:
        """Add how samples are spread over the bins between `edges`, as shares, so that sizes do not matter."""
        figure, axes = _start_plot(x_label, "share of all, %")
        for index, sample in enumerate(samples.values()):
            weights = [100 / max(len(sample), 1)] * len(sample)
            style = {"color": SERIES[index % len(SERIES)], "linewidth": 1.7}
            if len(samples) == 1:
                axes.hist(sample, bins=list(edges), weights=weights, color=SERIES[0], rwidth=0.92)
            else:
                dashes = (0, DASHES[index % len(DASHES)]) if DASHES[index % len(DASHES)] else "solid"
                axes.hist(sample, bins=list(edges), weights=weights, histtype="step", linestyle=dashes, **style)
        if is_x_log:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        self._plot(figure, list(samples), caption)

    def render(self) -> str:
        """Spell the whole page."""
        style = resources.files("codegemma").joinpath("report.css").read_text(encoding="utf-8")
        links = " ".join(f'<a href="#s{i}">{_inline(title)}</a>' for i, title in enumerate(self._sections))
        contents = f"<nav>{links}</nav>" if len(self._sections) >= CONTENTS_MIN_SECTIONS else ""
        subtitle = f'<p class="subtitle">{_inline(self._subtitle)}</p>' if self._subtitle else ""
        tab_title = _escape(self._title.replace("`", ""))
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{tab_title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
            f"<header><h1>{_inline(self._title)}</h1>{subtitle}{contents}</header>\n<main>\n"
            + "\n".join(self._parts)
            + "\n</main>\n</body>\n</html>\n"
        )

    def write(self, path: Path) -> None:
        """Write the page whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        write_whole(path, self.render().encode())

    def _figure(self, content: str, caption: str, kind: str = "") -> None:
        caption = f"<figcaption>{_inline(caption)}</figcaption>" if caption else ""
        self._parts.append(f"<figure{kind}>{content}{caption}</figure>")

    def _plot(self, figure: Any, names: Sequence[str], caption: str) -> None:
        legend = _legend(names) if len(names) >= LEGEND_MIN_SERIES else ""
        self._plots += 1
        self._figure(legend + _draw(figure, caption, self._plots), caption, ' class="plot"')


def _escape(text: str) -> str:
    """Make text safe in HTML; control characters, which HTML forbids, become visible signs, and so do halves of
    characters, which a model may write and UTF-8 cannot spell.
    """
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", _show_control, html.escape(text.replace("\r\n", "\n")))


def _show_control(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code >= 0xD800:
        return "\ufffd"
    return chr(0x2421 if code == 0x7F else 0x2400 + code)


def _inline(text: str) -> str:
    """Escape a line of text and set what stands between back ticks as code.

    >>> _inline("see `a<b>`")
    'see <code>a&lt;b&gt;</code>'
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _escape(text))


def _find_spreads(values: Iterable[float | Estimate]) -> Any:
    """Tell how far intervals reach below and above; `None` where no value has one."""
    reaches = [
        (value.value - value.low, value.high - value.value)
        if isinstance(value, Estimate) and value.low is not None and value.high is not None
        else (0.0, 0.0)
        for value in values
    ]
    return list(zip(*reaches, strict=True)) if any(map(any, reaches)) else None


def _plain(text: str) -> str:
    """Keep matplotlib from reading a label as mathematics, and a long one from filling the plot."""
    return (text if len(text) <= 44 else text[:43] + "…").replace("$", r"\$")


def _tag(name: str, content: str, is_number: bool) -> str:
    kind = ' class="number"' if is_number else ""
    return f"<{name}{kind}>{content}</{name}>"


def _format_number(value: float, digits: int) -> str:
    """Write a number with digits after the point and thin spaces between thousands, as whole numbers have.

    >>> _format_number(1234567, 0) == "1\\u202f234\\u202f567", _format_number(-0.126, 2)
    (True, '−0.13')
    """
    return f"{value:,.{digits}f}".replace(",", THIN_SPACE).replace("-", "−")


def _format_cell(cell: Any, column: Column) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, Estimate):
        shown = _format_number(cell.value * column.scale, column.digits)
        if cell.low is None or cell.high is None:
            return f'{shown}<span class="range">no interval</span>'
        low, high = (_format_number(bound * column.scale, column.digits) for bound in (cell.low, cell.high))
        return f'{shown}<span class="range">{low} to {high}</span>'
    if isinstance(cell, bool) or not isinstance(cell, (int, float)):
        return _inline(str(cell))
    return _format_number(cell * column.scale, 0 if isinstance(cell, int) and column.scale == 1 else column.digits)


def _legend(names: Sequence[str]) -> str:
    items = []
    for index, name in enumerate(names):
        dashes = " ".join(str(2 * d) for d in DASHES[index % len(DASHES)])
        line = f'<line x1="0" y1="6" x2="30" y2="6" stroke="var(--series-{index % len(SERIES)})" stroke-width="2.5"'
        line += f' stroke-dasharray="{dashes}"' if dashes else ""
        items.append(f'<li><svg viewBox="0 0 30 12" aria-hidden="true">{line}/></svg>{_inline(name)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def _start_plot(
    x_label: str, y_label: str, height_inches: float = PLOT_HEIGHT_INCHES, grid: Literal["x", "y"] = "y"
) -> Any:
    """Make empty axes in the page's manner: a light grid across the values, no box, labels in plain words."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PLOT_WIDTH_INCHES, height_inches), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(_plain(x_label), color=MUTED, fontsize=FONT_POINTS)
    axes.set_ylabel(_plain(y_label), color=MUTED, fontsize=FONT_POINTS)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines["left" if grid == "y" else "bottom"].set_visible(False)
    axes.spines[:].set_color(MUTED)
    axes.tick_params(colors=MUTED, which="both", labelsize=FONT_POINTS)
    axes.tick_params(axis=grid, length=0)
    return figure, axes


def _draw(figure: Any, label: str, number: int) -> str:
    """Draw as SVG with real text, colours from the style sheet, and ids that no other plot of the page has."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": f"codegemma-{number}"}), warnings.catch_warnings():
        # The browser draws the text, in fonts of its own; matplotlib only measures it.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<g|<svg[^>]*?) id="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg))
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(label, quote=True)}"', 1).strip()
