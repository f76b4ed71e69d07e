#!/usr/bin/env python3
"""Draws docs/compare.svg from the table of README.md's section "How it compares".

chart.py [README] [SVG]    by default README.md and docs/compare.svg of this repository
"""
import pathlib, re, sys

root = pathlib.Path(__file__).resolve().parents[1]
SCALE_MOST = 25 # a longer bar is cut, and says so
UNIT, ROW, BAR, NAMES, TOP = 11, 24, 8, 180, 76
PANEL = SCALE_MOST * UNIT + 70

STYLE = """
  .page { fill: #ffffff } text { fill: #24292f; font: 12px sans-serif } .small { font-size: 10px }
  .title { font-weight: bold } .one { fill: #4c78a8 } .two { fill: #e09f3e } .axis { stroke: #8c959f }
  .even { fill: none; stroke: #8c959f; stroke-dasharray: 3 3 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } text { fill: #d0d7de } .one { fill: #79a6d2 } .two { fill: #f0c070 }
  }"""

def rows_of(readme):
    """(name, [Go 1 P, Go 2 P, Boost 1 P, Boost 2 P]); None: an empty cell."""
    for line in readme.splitlines():
        cells = [c.strip() for c in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) == 5 and all(re.fullmatch(r"[\d.]*", c) for c in cells[1:]) and any(cells[1:]):
            yield cells[0], [float(c) if c else None for c in cells[1:]]

def bar(x, y, value, style):
    length = min(value, SCALE_MOST) * UNIT
    cut = " (cut)" if value > SCALE_MOST else ""
    return (f'<rect class="{style}" x="{x}" y="{y}" width="{length:.1f}" height="{BAR}"/>'
            f'<text class="small" x="{x + length + 4:.1f}" y="{y + BAR}">{value:.1f}{cut}</text>')

def draw(rows):
    width, height = NAMES + 2 * PANEL, TOP + ROW * len(rows) + 16
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">',
           "<title>How many times faster grt is than Go and than Boost.Fiber</title>", f"<style>{STYLE}\n</style>",
           f'<rect class="page" width="{width}" height="{height}"/>',
           '<text class="title" x="12" y="22">How many times faster grt is (1 = as fast)</text>',
           '<rect class="one" x="12" y="34" width="12" height="12"/><text x="30" y="44">1 P</text>',
           '<rect class="two" x="72" y="34" width="12" height="12"/><text x="90" y="44">2 P</text>']
    for panel, peer in enumerate(("than Go", "than Boost.Fiber")):
        x = NAMES + panel * PANEL
        out.append(f'<text class="title" x="{x}" y="{TOP - 14}">{peer}</text>')
        out.append(f'<path class="axis" d="M{x} {TOP - 6}V{height - 10}"/>')
        out.append(f'<path class="even" d="M{x + UNIT} {TOP - 6}V{height - 10}"/>')
        for i, (_, values) in enumerate(rows):
            for k, style in enumerate(("one", "two")):
                if (value := values[2 * panel + k]) is not None:
                    out.append(bar(x, TOP + i * ROW + k * (BAR + 1), value, style))
    for i, (name, _) in enumerate(rows):
        out.append(f'<text x="{NAMES - 8}" y="{TOP + i * ROW + 12}" text-anchor="end">{name}</text>')
    return "\n".join(out) + "\n</svg>\n"

def main():
    readme, svg = [pathlib.Path(a) for a in sys.argv[1:3]] + [root / "README.md", root / "docs/compare.svg"][len(sys.argv[1:3]):]
    rows = list(rows_of(readme.read_text()))
    if not rows:
        print(f"chart.py: no table of ratios in {readme}", file=sys.stderr)
        return 2
    svg.write_text(draw(rows))
    print(f"{svg}: {len(rows)} rows")
    return 0

sys.exit(main())
