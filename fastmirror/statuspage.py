"""The status page: how a mirror stands, for people, as one file of HTML that needs nothing else; and as JSON. No I/O.

Whatever comes from upstream or the operator goes through ``markup.fill``, which escapes it; the page's own policy
forbids scripts, and anything from elsewhere.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from fastmirror import __version__
from fastmirror.charts import bars, line
from fastmirror.markup import Markup, each, fill
from fastmirror.masking import clean
from fastmirror.progress import human_bytes, human_time
from fastmirror.reports import as_json, is_complete, missing_text, status_facts
from fastmirror.simple_entry import MAX_INTEGER
from fastmirror.statusstyle import STYLE
from fastmirror.trends import Trend, Trends, number
from fastmirror.wording import date_and_time, plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastmirror.inquiry import MirrorStatus

_FAILURES_SHOWN = 20
_RUNS_SHOWN = 12
_DAY_S = 86_400
_ENDED = {
    None: ("bad", "cut off, or going on"),
    0: ("good", "complete"),
    1: ("fair", "not all whole"),
    4: ("fair", "removals held back"),
    5: ("bad", "upstream unusable"),
    6: ("bad", "storage failed"),
    130: ("fair", "interrupted"),
    143: ("fair", "interrupted"),
}


class Place(NamedTuple):
    """Whose mirror this is, and where it is found."""

    master: str  # address of the upstream, without credentials
    public_url: str | None  # where readers reach ``web/``, without a final slash; None: unknown


_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{verdict}: mirror of {upstream}</title>
<style>{style}</style>
</head>
<body>
<header>
<p class="kind">Package mirror of {upstream}</p>
<h1 class="{tone}">{verdict}</h1>
<p class="told">{told}</p>
</header>
<main>
<dl class="figures">
{figures}</dl>
{failures}{charts}{use}{runs}<div class="pair">
{slowest}{largest}</div>
</main>
<footer>
<p>Written <time datetime="{written_iso}">{written}</time> UTC at the end of a run, by fastmirror {version}.
The same <a href="status.json">as JSON</a>. All times are UTC.</p>
</footer>
</body>
</html>
"""
_FIGURE = '<div><dt>{name}</dt><dd>{value}</dd><dd class="beside">{beside}</dd></div>\n'
_TABLE = """\
<section>
<h2>{title}</h2>
<div class="wide" role="region" aria-label="{title}" tabindex="0">
<table>
<thead><tr>{head}</tr></thead>
<tbody>
{body}</tbody>
</table>
</div>
{after}</section>
"""
_USE = """\
<section>
<h2>Use this mirror</h2>
{where}<div class="pair">
<div>
<h3>pip</h3>
<pre><code>pip config set global.index-url {index}{trusted}</code></pre>
</div>
<div>
<h3>uv, in <code>pyproject.toml</code></h3>
<pre><code>[[tool.uv.index]]
url = "{index}"
default = true</code></pre>
</div>
</div>
<p>All projects: <a href="../simple/">simple/</a></p>
</section>
"""


def status_page(status: MirrorStatus, changes: Trends, place: Place, now: float) -> str:
    """The page; `now` in epoch seconds."""
    tone, verdict, told = _verdict(status)
    return fill(
        _PAGE,
        policy=_POLICY,
        style=Markup(STYLE),
        upstream=urlsplit(place.master).netloc or place.master,
        tone=tone,
        verdict=verdict,
        told=told,
        figures=each(_FIGURE, _figures(status, changes)),
        failures=_failures(status),
        charts=_charts(changes, damaged=status.history_damaged),
        use=_use(place),
        runs=_runs(status.past),
        slowest=_slowest(status.past),
        largest=_largest(status),
        written_iso=date_and_time(now),
        written=_moment(now),
        version=__version__,
    )


def page_json(status: MirrorStatus, changes: Trends, now: float) -> str:
    """The page as one JSON object: what `status --json` says, the runs that are shown, and what the charts show."""
    drawn = {"stored_bytes": changes.size, "fetched_bytes_by_day": changes.fetched, "bytes_per_second": changes.rate}
    facts = {key: value for key, value in status_facts(status).items() if key != "directory"}
    return as_json(
        {
            "written": date_and_time(now),
            **facts,
            "growth_bytes_per_day": changes.growth,
            "runs": [_run_facts(run) for run in status.past[:_RUNS_SHOWN]],
            "trends": {
                name: [{"at": date_and_time(at), "value": round(min(value, MAX_INTEGER))} for at, value in trend.points]
                for name, trend in drawn.items()
            },
        }
    )


_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-"
    f"{b64encode(sha256(STYLE.encode()).digest()).decode()}'"
)


def _verdict(status: MirrorStatus) -> tuple[str, str, str]:
    """The tone, the verdict in a few words, and what a person is to know of it."""
    run = status.last_run
    if run is None:
        return "fair", "Nothing mirrored yet", "No run has ended yet."
    tone, ended = _ended(run.get("exit_status"))
    error = clean(str(run.get("error") or ""))
    when = f"The last run ended {_moment_of(run.get('finished'))} UTC"
    if is_complete(status):
        return "good", "Complete", f"{when}, and left nothing undone."
    if status.failing and tone != "bad":
        lacks = missing_text(status)
        missing = f" Missing: {lacks}." if lacks else ""
        return "fair", f"{plural(status.failing, 'project', 'projects')} not whole", f"{when}.{missing}"
    if run.get("finished") is None:
        return tone, f"Last run {ended}", "The next run mends what is left."
    return tone, f"Last run: {ended}", f"{when}.{f' It says: {error}' if error else ''}"


def _ended(exit_status: object) -> tuple[str, str]:
    known = _ENDED.get(exit_status) if isinstance(exit_status, int | None) else None
    return known or ("bad", f"failed ({exit_status})")


def _figures(status: MirrorStatus, changes: Trends) -> list[dict[str, object]]:
    behind = "upstream's is unknown"
    if status.serial is not None and status.upstream_serial is not None:
        behind = f"{max(0, status.upstream_serial - status.serial):,} behind upstream"
    lag = "no whole run yet" if status.lag_s is None else f"{human_time(status.lag_s)} behind, when this was written"
    lacking = f"{plural(status.missing_files, 'file', 'files')} missing"
    if status.missing_files:
        lacking += f", {human_bytes(status.missing_bytes)}"
    growth = "growth is told after a day"
    if changes.growth is not None:
        growth = f"{'-' if changes.growth < 0 else '+'}{human_bytes(abs(changes.growth))} a day"
    never = f"{plural(status.never_verified, 'project', 'projects')} not since they were fetched"
    return [
        {"name": "As upstream was", "value": _moment_of(status.as_of), "beside": lag},
        {"name": "Projects", "value": f"{status.projects:,}", "beside": f"{status.missing:,} missing"},
        {"name": "Files", "value": f"{status.files:,}", "beside": lacking},
        {"name": "Size", "value": human_bytes(status.bytes), "beside": growth},
        {"name": "Serial", "value": "none" if status.serial is None else f"{status.serial}", "beside": behind},
        {"name": "Oldest verification", "value": _moment_of(status.oldest_verified), "beside": never},
    ]


def _failures(status: MirrorStatus) -> Markup:
    if not status.failing:
        return Markup("")
    shown = status.failures[:_FAILURES_SHOWN]
    rows = [
        {
            "name": clean(failure.name),
            "reason": clean(failure.reason),
            "again": _moment_of(None if failure.next_try is None else date_and_time(failure.next_try)),
        }
        for failure in shown
    ]
    more = status.failing - len(shown)
    row = '<tr><th scope="row">{name}</th><td>{reason}</td><td class="when">{again}</td></tr>\n'
    after = f"<p>… and {more:,} more.</p>" if more > 0 else ""
    return _table("What is not whole", ("Project", "Why", "Tried again"), each(row, rows), after=Markup(after))


def _charts(changes: Trends, *, damaged: bool) -> Markup:
    torn = '<p class="fair">The history is damaged: some runs are told without their figures, or not at all.</p>\n'
    note = Markup(torn if damaged else "")
    drawn = [
        line(changes.size, "Size", _from_to(changes.size), _bytes, _day)
        if len(changes.size.points) > 1
        else Markup(""),
        bars(changes.fetched, "Fetched a day", f"at most {_bytes(changes.fetched.most)}", _bytes, _day)
        if changes.fetched.most
        else Markup(""),
        bars(changes.rate, "Throughput", f"at most {_rate(changes.rate.most)}", _rate, _day)
        if changes.rate.most
        else Markup(""),
    ]
    if not any(drawn):
        return note
    return fill(
        '<section>\n<h2>Over time</h2>\n{note}<div class="charts">\n{drawn}</div>\n</section>\n',
        note=note,
        drawn=Markup("".join(drawn)),
    )


def _from_to(trend: Trend) -> str:
    return f"from {human_bytes(trend.points[0][1])} to {human_bytes(trend.points[-1][1])}"


def _use(place: Place) -> Markup:
    base = place.public_url or "https://ADDRESS"
    where = (
        "" if place.public_url else "<p>ADDRESS is what this page's own address has before <code>/status/</code>.</p>\n"
    )
    host = urlsplit(base)
    trusted = f"\npip config set global.trusted-host {host.netloc}" if host.scheme == "http" else ""
    return fill(_USE, where=Markup(where), index=f"{base}/simple/", trusted=trusted)


def _runs(past: Sequence[Mapping[str, Any]]) -> Markup:
    rows = []
    for run in past[:_RUNS_SHOWN]:
        tone, ended = _ended(run["exit_status"])
        seconds = number(run, "seconds")
        rows.append(
            {
                "began": _moment(run["started"]),
                "took": human_time(seconds) if seconds else "",
                "tone": tone,
                "ended": ended,
                **{key: f"{number(run, key):,.0f}" for key in ("updated", "removed", "failed", "files")},
                "size": human_bytes(number(run, "bytes")),
            }
        )
    row = (
        '<tr><th scope="row" class="when">{began}</th><td>{took}</td><td class="{tone}">{ended}</td>'
        "<td>{updated}</td><td>{removed}</td><td>{failed}</td><td>{files}</td><td>{size}</td></tr>\n"
    )
    head = ("Began", "Took", "Ended", "Updated", "Removed", "Failed", "Files", "Fetched")
    return _table("Last runs", head, each(row, rows)) if rows else Markup("")


def _slowest(past: Sequence[Mapping[str, Any]]) -> Markup:
    """Of the last run that did anything; what is no list of such projects, as in a damaged history, is none."""
    told = next((run["slowest"] for run in past if run.get("slowest")), None)
    rows: list[dict[str, object]] = [
        {
            "name": clean(str(slow.get("name"))),
            "took": human_time(number(slow, "seconds")),
            "size": human_bytes(number(slow, "bytes")),
        }
        for slow in islice(told if isinstance(told, list) else [], 10)
        if isinstance(slow, dict)
    ]
    row = '<tr><th scope="row">{name}</th><td>{took}</td><td>{size}</td></tr>\n'
    return _table("Slowest projects", ("Project", "Took", "Fetched"), each(row, rows)) if rows else Markup("")


def _largest(status: MirrorStatus) -> Markup:
    rows: list[dict[str, object]] = [
        {"name": clean(large.name), "files": f"{large.files:,}", "size": human_bytes(large.bytes)}
        for large in status.largest
    ]
    row = '<tr><th scope="row">{name}</th><td>{files}</td><td>{size}</td></tr>\n'
    return _table("Largest projects", ("Project", "Files", "Size"), each(row, rows)) if rows else Markup("")


def _table(title: str, head: tuple[str, ...], body: Markup, *, after: Markup = Markup("")) -> Markup:  # noqa: B008
    columns = each('<th scope="col">{name}</th>', [{"name": name} for name in head])
    return fill(_TABLE, title=title, head=columns, body=body, after=after)


def _run_facts(run: Mapping[str, Any]) -> dict[str, Any]:
    moments = {key: None if run[key] is None else date_and_time(run[key]) for key in ("started", "finished")}
    figures = ("seconds", "updated", "removed", "partial", "failed", "files", "bytes", "stored_bytes")
    return {**moments, "exit_status": run["exit_status"], **{key: number(run, key) for key in figures}}


def _bytes(value: float) -> str:
    """A size for a scale: 5 GB, 2.5 GB."""
    amount, _, unit = human_bytes(value).partition(" ")
    return f"{amount.rstrip('0').rstrip('.') if '.' in amount else amount} {unit}"


def _rate(value: float) -> str:
    return f"{_bytes(value)}/s"


def _moment(epoch: float) -> str:
    return date_and_time(epoch)[:16].replace("T", " ")


def _day(epoch: float) -> str:
    return date_and_time(epoch)[:10]


def _moment_of(iso: str | None) -> str:
    return "never" if iso is None else iso[:16].replace("T", " ")
