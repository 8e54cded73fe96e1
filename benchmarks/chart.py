"""Pictures of results as SVG, readable on light and on dark ground: bars of a comparison, a curve. No library."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.report import Row

WIDTH, LABELS, VALUES = 860, 300, 120  # the picture; what the names and the figures take of it
BAR, GAP, HEAD = 11, 12, 44
STYLE = """\
  <style>
    text { font: 13px system-ui, sans-serif; fill: #1f2328 }
    .head { font-weight: 600; font-size: 14px }
    .note { font-size: 12px; fill: #59636e }
    .axis { stroke: #8c959f } .line { fill: none; stroke: #1a7f37; stroke-width: 2 }
    .ours { fill: #1a7f37 } .peer { fill: #8c959f }
    .cpu { opacity: .5 }
    @media (prefers-color-scheme: dark) {
      .line { stroke: #3fb950 }
      text { fill: #e6edf3 } .note { fill: #9198a1 } .ours { fill: #3fb950 } .peer { fill: #7d8590 }
    }
  </style>"""


def chart(rows: list[Row], title: str, note: str) -> str:
    """The picture: for each step and tool a bar of wall time and, lighter, one of CPU time, in seconds."""
    parts: list[str] = []
    top = 58
    for step in dict.fromkeys(row.step for row in rows):
        group = [row for row in rows if row.step == step and row.sound]
        if not group:
            continue
        longest = max(max(row.wall_s, row.cpu_s) for row in group)
        parts.append(f'  <text class="head" x="12" y="{top + 16}">{escape(step)}</text>')
        top += 28
        for row in group:
            parts += _bars(row, longest, top)
            top += 2 * BAR + GAP
        top += HEAD - 28
    texts = [
        f'  <text class="head" x="12" y="24">{escape(title)}</text>',
        f'  <text class="note" x="12" y="44">{escape(note)}</text>',
    ]
    return "\n".join([_open(WIDTH, top + 8, title), *texts, *parts, "</svg>", ""])


def _open(width: int, height: int, title: str) -> str:
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">\n{STYLE}'


def curve(points: dict[int, float], title: str, across: str, unit: str) -> str:
    """The picture of a cost by size: points on a logarithmic scale of sizes, the cost from zero."""
    width, height, left, top = 560, 300, 60, 50
    smallest, largest = math.log(min(points)), math.log(max(points))
    most = max(points.values()) * 1.15

    def place(size: int, cost: float) -> tuple[float, float]:
        return (
            left + (width - left - 60) * (math.log(size) - smallest) / (largest - smallest),
            top + (height - top - 50) * (1 - cost / most),
        )

    places = [(*place(size, cost), size, cost) for size, cost in points.items()]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in places)
    base = height - 50
    parts = [
        _open(width, height, title),
        f'  <text class="head" x="12" y="24">{escape(title)}</text>',
        f'  <line class="axis" x1="{left}" y1="{base}" x2="{width - 40}" y2="{base}"/>',
        f'  <polyline class="line" points="{line}"/>',
    ]
    for x, y, size, cost in places:
        parts.append(f'  <circle class="ours" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
        parts.append(f'  <text x="{x:.1f}" y="{y - 10:.1f}" text-anchor="middle">{cost:.0f} {escape(unit)}</text>')
        parts.append(f'  <text class="note" x="{x:.1f}" y="{base + 18}" text-anchor="middle">{size:,}</text>')
    middle = (left + width - 40) / 2
    parts.append(f'  <text class="note" x="{middle}" y="{height - 10}" text-anchor="middle">{escape(across)}</text>')
    return "\n".join([*parts, "</svg>", ""])


LINES = ("#1a7f37", "#0969da", "#bf3989", "#9a6700", "#8250df", "#cf222e", "#1b7c83", "#7d8590")


def curves(series: dict[str, dict[int, float]], title: str, across: str, unit: str) -> str:
    """The picture of several costs by size, both on logarithmic scales; each is named in the key below."""
    width, height, left, right, top = WIDTH, 330, 60, 40, 50
    sizes = sorted({size for points in series.values() for size in points})
    costs = [cost for points in series.values() for cost in points.values()]
    least, most = math.log(min(costs) / 1.2), math.log(max(costs) * 1.2)
    base = height - 50

    def x(size: int) -> float:
        return left + (width - left - right) * math.log(size / sizes[0]) / math.log(sizes[-1] / sizes[0])

    def y(cost: float) -> float:
        return top + (base - top) * (most - math.log(cost)) / (most - least)

    parts = [
        _open(width, height + 24 * len(series), title),
        f'  <text class="head" x="12" y="24">{escape(title)}</text>',
        f'  <line class="axis" x1="{left}" y1="{base}" x2="{width - right}" y2="{base}"/>',
        f'  <text class="note" x="{width / 2}" y="{base + 38}" text-anchor="middle">{escape(across)}</text>',
        *(
            f'  <text class="note" x="{x(size):.1f}" y="{base + 18}" text-anchor="middle">{size:,}</text>'
            for size in sizes
        ),
    ]
    for power in range(math.ceil(least / math.log(10)), math.floor(most / math.log(10)) + 1):
        at = f"{y(10.0**power):.1f}"
        ends = f'x1="{left}" y1="{at}" x2="{width - right}" y2="{at}"'
        label = f"{10**power:,} {escape(unit)}"
        parts.append(f'  <line class="axis" stroke-dasharray="2 4" {ends}/>')
        parts.append(f'  <text class="note" x="{left - 8}" y="{at}" text-anchor="end">{label}</text>')
    for number, (name, points) in enumerate(series.items()):
        colour, below = LINES[number % len(LINES)], height + 14 + 24 * number
        line = " ".join(f"{x(size):.1f},{y(cost):.1f}" for size, cost in sorted(points.items()))
        key = f'x1="{left}" y1="{below}" x2="{left + 24}" y2="{below}"'
        parts.append(f'  <polyline fill="none" stroke="{colour}" stroke-width="2" points="{line}"/>')
        parts.append(f'  <line stroke="{colour}" stroke-width="3" {key}/>')
        parts.append(f'  <text x="{left + 34}" y="{below + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _bars(row: Row, longest: float, top: int) -> list[str]:
    scale = (WIDTH - LABELS - VALUES) / longest
    kind = "ours" if row.tool.startswith("fastmirror") else "peer"
    end = LABELS + max(row.wall_s, row.cpu_s) * scale
    middle = top + BAR + 5
    wall, cpu = (f"{max(1.0, seconds * scale):.1f}" for seconds in (row.wall_s, row.cpu_s))
    figures = f'{_short(row.wall_s)} s <tspan class="note">CPU {_short(row.cpu_s)}</tspan>'
    return [
        f'  <text x="{LABELS - 10}" y="{middle}" text-anchor="end">{escape(row.name)}</text>',
        f'  <rect class="{kind}" x="{LABELS}" y="{top}" width="{wall}" height="{BAR}"/>',
        f'  <rect class="{kind} cpu" x="{LABELS}" y="{top + BAR}" width="{cpu}" height="{BAR}"/>',
        f'  <text x="{end + 8:.1f}" y="{middle}">{figures}</text>',
    ]


def _short(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 20 else f"{seconds:.1f}" if seconds >= 2 else f"{seconds:.2f}"
