"""A bar chart of a comparison as SVG, readable on light and on dark ground. No library."""

from __future__ import annotations

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
    .ours { fill: #1a7f37 } .peer { fill: #8c959f }
    .cpu { opacity: .5 }
    @media (prefers-color-scheme: dark) {
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
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 8}" width="{WIDTH}"'
        f' height="{top + 8}" role="img" aria-label="{escape(title)}">'
    )
    texts = [
        f'  <text class="head" x="12" y="24">{escape(title)}</text>',
        f'  <text class="note" x="12" y="44">{escape(note)}</text>',
    ]
    return "\n".join([head, STYLE, *texts, *parts, "</svg>", ""])


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
