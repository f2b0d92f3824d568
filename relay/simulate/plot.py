"""Draws runs over time: as blocks for a terminal, or as an SVG that needs no other file."""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from relay.simulate.figures import TimeSeries

COLUMNS = 70  # with the labels it fits a terminal of 80
_LABEL = 7  # characters: 100,000
_ROWS = 6
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_IN_ASCII = str.maketrans("▁▂▃▄▅▆▇█┤┴─", "..--==##|+-")
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 860, 150, 64, 58, 46
SVG_COLUMNS = _WIDTH - _LEFT - 20
_COLOURS = ("#1f6feb", "#d9730d")  # a blue and an orange that colour-blind readers tell apart


class Drawn(NamedTuple):
    """One run to draw. ``outages`` are pairs of start and end, in seconds."""

    name: str
    series: TimeSeries
    outages: Sequence[tuple[float, float]]


class _Panel(NamedTuple):
    title: str
    values: list[Sequence[float]]  # per run
    top: float


def terminal(drawn: Sequence[Drawn], *, label: Callable[[float], str], titled: Callable[[str], str] = str) -> list[str]:
    """Return the lines of all charts, one below the other. The runs of a chart share a scale.

    ``label`` writes a time in seconds, ``titled`` a title in another language.
    """
    lines = []
    for panel in _panels(drawn):
        for run, values in zip(drawn, panel.values, strict=True):
            name = f"  {run.name}" if len(drawn) > 1 else ""
            lines += ["", f"{titled(panel.title)}{name}"]
            for row in range(_ROWS, 0, -1):
                axis = _number(panel.top) if row == _ROWS else ""
                lines.append(f"{axis:>{_LABEL}} ┤{_row(values, row, panel.top)}".rstrip())
            lines.append(f"{0:>{_LABEL}} ┴{_under(run)}")
            lines.append(" " * (_LABEL + 2) + _time_axis(run.series.step_s * COLUMNS, label))
    return lines


def drawable(line: str, encoding: str | None) -> str:
    """Return a line of a chart as a terminal of this encoding can show it."""
    try:
        line.encode(encoding or "ascii")
    except UnicodeEncodeError:
        return line.translate(_IN_ASCII)
    return line


def svg(drawn: Sequence[Drawn], *, title: str, notes: Sequence[str], label: Callable[[float], str]) -> str:
    """Return one SVG document: every run in its colour, outages grey, ``title`` above and ``notes`` below."""
    panels = _panels(drawn)
    end_s = drawn[0].series.step_s * len(drawn[0].series.backlog)
    bottom = _TOP + len(panels) * (_HEIGHT + _GAP)
    height = bottom + 16 * len(notes) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#1f2328">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="22" font-size="15" font-weight="600">{escape(title)}</text>',
    ]
    if len(drawn) > 1:
        for index, run in enumerate(drawn):
            x = _LEFT + index * 320
            parts.append(f'<rect x="{x}" y="31" width="14" height="4" fill="{_COLOURS[index % 2]}"/>')
            parts.append(f'<text x="{x + 20}" y="38">{escape(run.name)}</text>')
    for number, panel in enumerate(panels):
        parts += _svg_panel(drawn, panel, _TOP + number * (_HEIGHT + _GAP), end_s, label)
    for number, note in enumerate(notes):
        parts.append(f'<text x="16" y="{bottom + 16 * number}" fill="#59636e">{escape(note)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _panels(drawn: Sequence[Drawn]) -> list[_Panel]:
    series = [run.series for run in drawn]
    panels = [
        _panel("backlog, callbacks", [each.backlog for each in series]),
        _panel("requests per minute", [each.requests for each in series]),
    ]
    if any(any(each.rejects) for each in series):
        panels.append(_panel("turned away per minute", [each.rejects for each in series]))
    return panels


def _panel(title: str, values: list[Sequence[float]]) -> _Panel:
    return _Panel(title, values, _round_up(max(max(each) for each in values)))


def _round_up(most: float) -> float:
    """Return a round number that is not below ``most``: 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten."""
    if most <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    steps = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
    return next(step * power for step in steps if step * power >= most * 0.999999)


def _number(value: float) -> str:
    return f"{value:,.10g}" if value < 1e6 else f"{value / 1e6:,.10g}M"


def _row(values: Sequence[float], row: int, top: float) -> str:
    filled = []
    for value in values:
        eighths = math.ceil(value / top * _ROWS * 8) - (row - 1) * 8  # rounded up, so that a small value can be seen
        filled.append(_EIGHTHS[min(8, max(0, eighths))])
    return "".join(filled)


def _under(run: Drawn) -> str:
    """Return the line below a chart, with crosses while the platform was down."""
    line = []
    for column in range(COLUMNS):
        start_s = column * run.series.step_s
        down = any(since_s < start_s + run.series.step_s and start_s < until_s for since_s, until_s in run.outages)
        line.append("×" if down else "─")
    return "".join(line)


def _time_axis(end_s: float, label: Callable[[float], str]) -> str:
    """Return the labels of start, quarters and end under their columns."""
    line = ""
    for quarter in range(5):
        text = label(end_s * quarter / 4)
        at = round(COLUMNS * quarter / 4)
        line = line.ljust(at if quarter == 0 else at - (len(text) if quarter == 4 else len(text) // 2)) + text
    return line


def _svg_panel(drawn: Sequence[Drawn], panel: _Panel, y: int, end_s: float, label: Callable[[float], str]) -> list[str]:
    base = y + _HEIGHT
    parts = [f'<text x="{_LEFT}" y="{y - 6}" font-weight="600">{escape(panel.title)}</text>']
    for since_s, until_s in sorted({outage for run in drawn for outage in run.outages}):
        x, width = since_s / end_s * SVG_COLUMNS, (min(until_s, end_s) - since_s) / end_s * SVG_COLUMNS
        if width > 0:
            parts.append(
                f'<rect x="{_LEFT + x:.1f}" y="{y}" width="{width:.1f}" height="{_HEIGHT}" fill="#eaeef2"/>'
                f'<text x="{_LEFT + x + 4:.1f}" y="{y + 13}" font-size="11" fill="#59636e">down</text>'
            )
    for share in (0.0, 0.5, 1.0):
        level = base - share * _HEIGHT
        parts.append(
            f'<line x1="{_LEFT}" y1="{level:.0f}" x2="{_LEFT + SVG_COLUMNS}" y2="{level:.0f}" stroke="#d1d9e0"/>'
            f'<text x="{_LEFT - 6}" y="{level + 4:.0f}" text-anchor="end">{_number(panel.top * share)}</text>'
        )
    for quarter in range(5):
        x = _LEFT + SVG_COLUMNS * quarter / 4
        parts.append(
            f'<text x="{x:.0f}" y="{base + 16}" text-anchor="middle">{escape(label(end_s * quarter / 4))}</text>'
        )
    for index, values in enumerate(panel.values):
        parts.append(_svg_line(values, panel.top, base, _COLOURS[index % 2], filled=len(drawn) == 1))
    return parts


def _svg_line(values: Sequence[float], top: float, base: int, colour: str, *, filled: bool) -> str:
    points = " ".join(f"{_LEFT + column},{base - value / top * _HEIGHT:.1f}" for column, value in enumerate(values))
    area = ""
    if filled:
        area = (
            f'<polygon points="{_LEFT},{base} {points} {_LEFT + len(values) - 1},{base}" fill="{colour}" '
            'fill-opacity="0.15"/>'
        )
    return f'{area}<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.4"/>'
