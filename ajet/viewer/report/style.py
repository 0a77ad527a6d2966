"""The style of a report."""

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --raised: #f6f7f9; --line: #dfe3e8;
  --text: #1c2127; --muted: #56606b; --accent: #1d5fa6; --escape: #8a1f6a;
  --c0: #1f6fb4; --c1: #d06a00; --c2: #218a54; --c3: #a8438f; --c4: #7a5cc0; --c5: #b03a2e; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171b; --raised: #1c2026;
  --line: #333a43; --text: #e3e7eb; --muted: #a0aab5; --accent: #82b7f0; --escape: #f0a5da;
  --c0: #6aaeea; --c1: #f0a24e; --c2: #62c48d; --c3: #dd8aca; --c4: #ab95ea; --c5: #ef8378; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .75rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .1rem; }
p { margin: 0 0 .6rem; }
.muted, .facts dt { color: var(--muted); }
.facts { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 1rem 0; }
.facts dt { font-size: .85rem; }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.notice { border-left: 3px solid var(--line); background: var(--raised); padding: .4rem .8rem; }
.notice ul { margin: 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; font-weight: inherit; vertical-align: top;
  padding: .25rem 1.5rem .25rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
td { min-width: 4rem; }
tr:first-child th[scope="col"] { color: var(--muted); }
.num { text-align: right; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr));
  gap: 1.5rem 2rem; }
figure { margin: 0; }
figcaption { font-weight: 600; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--muted); font-size: 11.5px; }
.grid { stroke: var(--line); }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.line.c0 { stroke: var(--c0); } .line.c1 { stroke: var(--c1); } .line.c2 { stroke: var(--c2); }
.line.c3 { stroke: var(--c3); } .line.c4 { stroke: var(--c4); } .line.c5 { stroke: var(--c5); }
.c0 { background: var(--c0); } .c1 { background: var(--c1); } .c2 { background: var(--c2); }
.c3 { background: var(--c3); } .c4 { background: var(--c4); } .c5 { background: var(--c5); }
.dot { fill: var(--c0); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0 1rem; margin: .2rem 0 0;
  padding: 0; font-size: .85rem; }
.swatch { display: inline-block; width: .7em; height: .7em; border-radius: 2px;
  margin-right: .35em; }
.message { display: grid; grid-template-columns: 8rem minmax(0, 1fr); gap: .75rem;
  padding: .4rem .8rem; border: 1px solid var(--line); border-bottom: 0; }
.message:last-child { border-bottom: 1px solid var(--line); }
.message.answer { background: var(--raised); }
.answer .role { color: var(--accent); font-weight: 600; }
.role { color: var(--muted); overflow-wrap: anywhere; }
.said { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
pre, code, .code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .88em; }
pre { background: var(--raised); padding: .6rem .8rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.escape { color: var(--escape); font-family: ui-monospace, monospace; font-size: .85em; }
summary { cursor: pointer; color: var(--accent); }
@media (max-width: 600px) { .message { grid-template-columns: minmax(0, 1fr); gap: 0; } }
@media print { details { display: block; } }
"""
