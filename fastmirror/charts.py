"""Charts as inline SVG. Their texts are HTML beside them, so that they keep their size whatever the width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmirror.markup import Markup, each, fill

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmirror.trends import Trend

_STEPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
_WIDTH, _HEIGHT = 600, 100  # of the drawing, which is stretched
_WIDEST_BAR = 40

_FIGURE = """\
<figure class="chart">
<figcaption><b>{title}</b> {told}</figcaption>
<div class="plot">
<div class="scale" aria-hidden="true"><span>{top}</span><span>{middle}</span><span>0</span></div>
<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" aria-label="{title}: {told}">
<path class="grid" d="M0 .5H{width}M0 {half}H{width}M0 {foot}H{width}"/>{drawing}</svg>
<div class="span" aria-hidden="true"><span>{begin}</span><span>{end}</span></div>
</div>
</figure>
"""


def line(trend: Trend, title: str, told: str, value: Callable[[float], str], moment: Callable[[float], str]) -> Markup:
    """A value that lasts, over time; `told` says in words what is to be seen."""
    top = ceiling(trend.most)
    first, last = trend.points[0][0], trend.points[-1][0]
    path = " ".join(
        f"{_WIDTH * (at - first) / ((last - first) or 1):.1f},{_HEIGHT * (1 - each_value / top):.1f}"
        for at, each_value in trend.points
    )
    drawing = fill(
        '<path class="area" d="M0,{foot} L{path} L{right},{foot}Z"/><path class="line" d="M{path}"/>',
        foot=_HEIGHT,
        path=path,
        right=_WIDTH if last > first else 0,
    )
    return _figure(trend, title, told, value, moment, drawing)


def bars(trend: Trend, title: str, told: str, value: Callable[[float], str], moment: Callable[[float], str]) -> Markup:
    """Values that stand each for itself, in their order; `told` says in words what is to be seen."""
    top, slot = ceiling(trend.most), _WIDTH / len(trend.points)
    width = min(slot * 0.8, _WIDEST_BAR)
    drawing = each(
        '<rect x="{x}" y="{y}" width="{width}" height="{height}"/>',
        [
            {
                "x": f"{(number + 0.5) * slot - width / 2:.1f}",
                "y": f"{_HEIGHT * (1 - each_value / top):.1f}",
                "width": f"{width:.1f}",
                "height": f"{_HEIGHT * each_value / top:.1f}",
            }
            for number, (_, each_value) in enumerate(trend.points)
        ],
    )
    return _figure(trend, title, told, value, moment, drawing)


def ceiling(most: float) -> float:
    """The least round number that is not below; 1 at the least."""
    power = 1.0
    while power * 10 < most:
        power *= 10
    return next(step * power for step in _STEPS if step * power >= most)


def _figure(
    trend: Trend,
    title: str,
    told: str,
    value: Callable[[float], str],
    moment: Callable[[float], str],
    drawing: Markup,
) -> Markup:
    top = ceiling(trend.most)
    return fill(
        _FIGURE,
        title=title,
        told=told,
        top=value(top),
        middle=value(top / 2),
        width=_WIDTH,
        height=_HEIGHT,
        half=_HEIGHT / 2,
        foot=_HEIGHT - 0.5,
        drawing=drawing,
        begin=moment(trend.points[0][0]),
        end=moment(trend.points[-1][0]),
    )
