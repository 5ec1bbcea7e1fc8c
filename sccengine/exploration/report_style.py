"""The style sheet of report.html: one column on a phone, more where there is room, light or dark as the reader prefers.

Text on its ground has a contrast of at least 4.5 to 1; blue and orange, after Okabe and Ito, tell apart to all eyes.
"""

STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --card: #f5f6f8; --ink: #1d2127; --faint: #59616c; --line: #d5d9df;
  --front: #0067a5; --stopped: #b84a00; --other: #7b828c; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171b; --card: #1e2329; --ink: #e6e9ed; --faint: #a3acb8;
  --line: #3a424c; --front: #62b8f0; --stopped: #f0a04b; --other: #8f98a3; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem 1rem 3rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p { max-width: 46rem; margin: .4rem 0 .8rem; }
.faint, figcaption { color: var(--faint); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.6rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.tiles div { background: var(--card); border-radius: .5rem; padding: .6rem .8rem; }
.tiles dt { color: var(--faint); font-size: .85rem; }
.tiles dd { margin: 0; font-size: 1.25rem; font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); gap: 1.2rem; }
figure { margin: 0; max-width: 36rem; }
figcaption { font-size: .9rem; }
svg { width: 100%; height: auto; display: block; font: 13px system-ui, sans-serif; }
svg text { fill: var(--ink); }
svg .tick { fill: var(--faint); }
svg .number { fill: var(--front); font-size: 11px; font-weight: 600; }
svg .left { text-anchor: end; }
svg .middle { text-anchor: middle; }
svg .grid { stroke: var(--line); stroke-width: .7; fill: none; }
svg .axis { stroke: var(--faint); stroke-width: 1; fill: none; }
svg .line { fill: none; stroke: var(--front); stroke-width: 1.8; }
svg .reach { stroke: var(--front); stroke-width: 1; opacity: .6; }
svg .curve { fill: none; stroke: var(--other); stroke-width: 1; opacity: .7; }
svg .curve.stopped { stroke: var(--stopped); stroke-dasharray: 4 3; opacity: 1; }
svg .curve.front { stroke: var(--front); stroke-width: 2; opacity: 1; }
svg .mark { fill: var(--ground); stroke: var(--other); stroke-width: 1.5; }
svg .mark.front { fill: var(--front); stroke: var(--ground); }
svg .mark.stopped { fill: none; stroke: var(--stopped); stroke-width: 1.8; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; margin: .2rem 0 .6rem; padding: 0; list-style: none;
  font-size: .9rem; }
.key svg { display: inline-block; width: 1.1rem; height: 1.1rem; vertical-align: -.2rem; margin-right: .35rem; }
.wide { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--faint); font-weight: 600; white-space: nowrap; }
td.figure, th.figure { text-align: right; white-space: nowrap; }
th.words { white-space: normal; }
td.name { white-space: nowrap; }
td.words { min-width: 9rem; max-width: 40rem; overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; font-size: .92rem; margin: .6rem 0; }
.facts dt, .facts dd { margin: 0; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); }
.facts dt { color: var(--faint); }
.facts dd { overflow-wrap: anywhere; }
td.bar { width: 8rem; min-width: 5rem; }
td.bar i { display: block; height: .8rem; margin-top: .3rem; background: var(--front); border-radius: 2px; }
pre { background: var(--card); border-radius: .5rem; padding: .6rem .8rem; margin: .2rem 0 1rem; font-size: .85rem;
  white-space: pre-wrap; overflow-wrap: anywhere; user-select: all; }
pre span { white-space: nowrap; }
details { margin: .6rem 0; }
summary { cursor: pointer; }
@media print { body { max-width: none; } details { display: block; } }
"""
