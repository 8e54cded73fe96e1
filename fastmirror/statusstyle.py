"""How the status page looks: in light and dark, on a wide screen and on a phone."""

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --card: #f5f7f9; --ink: #16191d; --soft: #55606b; --rule: #d8dee4;
  --accent: #0a5fbf; --area: #0a5fbf1f; --good: #136c3a; --fair: #855300; --bad: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0f1317; --card: #181d23; --ink: #e7eaee; --soft: #9da8b3; --rule: #2b323a;
    --accent: #74b3ff; --area: #74b3ff26; --good: #5fcb8c; --fair: #e6b450; --bad: #ff8f85; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 3rem; max-width: 66rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
a { color: var(--accent); }
.kind, .told, .beside, footer, figcaption, .scale, .span { color: var(--soft); }
.kind, .told { margin: 0; }
h1 { margin: .1rem 0 .25rem; font-size: clamp(1.75rem, 6vw, 2.5rem); line-height: 1.15; letter-spacing: -.02em; }
h2 { margin: 2.75rem 0 .75rem; font-size: 1.2rem; line-height: 1.3; }
h3 { margin: 0 0 .4rem; font-size: .95rem; }
.good { color: var(--good); } .fair { color: var(--fair); } .bad { color: var(--bad); }
.figures { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1px;
  margin: 1.75rem 0 0; border: 1px solid var(--rule); border-radius: .6rem; background: var(--rule); overflow: hidden; }
.figures div { padding: .85rem 1rem; background: var(--card); }
dt { font-size: .85rem; color: var(--soft); }
dd { margin: 0; font-size: 1.4rem; font-weight: 600; line-height: 1.3; font-variant-numeric: tabular-nums; }
dd.beside { font-size: .85rem; font-weight: 400; }
@media (max-width: 46rem) {
  body { padding-top: 1.5rem; } .figures { grid-template-columns: repeat(2, 1fr); }
  .figures div { padding: .7rem .8rem; }
  dd { font-size: 1.15rem; }
}
.charts, .pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: 0 2rem; }
.pair { grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.chart { margin: 0 0 1.25rem; min-width: 0; }
figcaption { margin-bottom: .5rem; font-size: .85rem; }
figcaption b { color: var(--ink); }
.plot { display: grid; grid-template-columns: auto 1fr; gap: .25rem .6rem; }
.scale { display: flex; flex-direction: column; justify-content: space-between; margin: -.6em 0; text-align: right; }
.scale, .span { font-size: .75rem; line-height: 1.2; font-variant-numeric: tabular-nums; white-space: nowrap; }
.span { grid-column: 2; display: flex; justify-content: space-between; }
svg { display: block; width: 100%; height: 8.5rem; overflow: visible; }
svg path { fill: none; vector-effect: non-scaling-stroke; }
.grid { stroke: var(--rule); } .line { stroke: var(--accent); stroke-width: 2; stroke-linejoin: round; }
svg .area { fill: var(--area); } rect { fill: var(--accent); }
.wide { overflow-x: auto; border-top: 1px solid var(--rule); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem 1rem .45rem 0; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
thead th { font-weight: 400; font-size: .8rem; color: var(--soft); white-space: nowrap; }
tbody th { font-weight: 600; min-width: 8rem; }
td { min-width: 4rem; } .when, td.good, td.fair, td.bad { white-space: nowrap; }
pre { margin: 0 0 1rem; padding: .8rem 1rem; border-radius: .5rem; background: var(--card); white-space: pre-wrap; }
code { font: .85rem/1.55 ui-monospace, "DejaVu Sans Mono", monospace; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--rule); font-size: .85rem; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
"""
