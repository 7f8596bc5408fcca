"""A bar chart as SVG: the server's CPU time per operation, ours beside the others'.

Each panel has its own scale, because workloads differ a hundredfold. Every bar shows its figure.
The colours follow the reader's light or dark mode. The background is drawn, too, so that the chart
is readable on any page.
"""
from html import escape

from report import short

STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
  text { fill: #57606a; }
  .back { fill: #ffffff; stroke: #d0d7de; }
  .head { font-size: 16px; font-weight: 600; fill: #1f2328; }
  .title, .own { font-weight: 600; fill: #1f2328; }
  .ours { fill: #0a6fd1; }
  .other { fill: #afb8c1; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1; }
    .back { fill: #0d1117; stroke: #3d444d; }
    .head, .title, .own { fill: #f0f6fc; }
    .ours { fill: #4493f8; }
    .other { fill: #59636e; }
  }
"""
HEAD = "Server CPU time per operation"
WIDTH, MARGIN, GAP = 880, 24, 32
HEAD_HEIGHT, TITLE_HEIGHT, BAR_HEIGHT, STEP, FOOT = 76, 22, 13, 18, 18
# The average width of a letter of 12 px, in pixels, at most.
LETTER = 6.6


def panel(title, bars, x, y, width):
    """Draws one workload's bars at (x, y). Returns the SVG elements and the height."""
    figures = [("" if us is None else f"{short(us)} µs") + note for _, us, note, _ in bars]
    labels = LETTER * max(len(label) for label, _, _, _ in bars) + 10
    room = width - labels - LETTER * max(map(len, figures)) - 10
    most = max((us for _, us, _, _ in bars if us), default=1)
    stands_out = len({is_ours for _, _, _, is_ours in bars}) > 1
    elements = [f'<text class="title" x="{x:.0f}" y="{y + 12:.0f}">{escape(title)}</text>']
    for index, (label, us, _, is_ours) in enumerate(bars):
        top = y + TITLE_HEIGHT + index * STEP
        start, length = x + labels, max(1.0, room * (us or 0) / most)
        kind, own = "ours" if is_ours else "other", ' class="own"' if is_ours and stands_out else ""
        elements += [
            f'<text{own} x="{start - 8:.1f}" y="{top + 11:.0f}" text-anchor="end">'
            f"{escape(label)}</text>",
            f'<rect class="{kind}" x="{start:.1f}" y="{top:.0f}" width="{length:.1f}"'
            f' height="{BAR_HEIGHT}" rx="2"/>',
            f'<text{own} x="{start + length + 6:.1f}" y="{top + 11:.0f}">{figures[index]}</text>',
        ]
    return elements, TITLE_HEIGHT + len(bars) * STEP


def picture(panels, caption):
    """Draws `panels`, each a (title, [(label, µs, note, is_ours)]), and returns the SVG.

    Two panels stand side by side. A bar without µs is as short as can be, and has only its note.
    """
    half = (WIDTH - 2 * MARGIN - GAP) / 2
    elements, y = [], HEAD_HEIGHT
    for first in range(0, len(panels), 2):
        height = 0
        for column, (title, bars) in enumerate(panels[first:first + 2]):
            drawn, its_height = panel(title, bars, MARGIN + column * (half + GAP), y, half)
            elements += drawn
            height = max(height, its_height)
        y += height + FOOT
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y:.0f}"'
        f' viewBox="0 0 {WIDTH} {y:.0f}" role="img" aria-label="{HEAD}">',
        f"<title>{HEAD}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="back" x="0.5" y="0.5" width="{WIDTH - 1}" height="{y - 1:.0f}" rx="6"/>',
        f'<text class="head" x="{MARGIN}" y="32">{HEAD}: shorter is better</text>',
        f'<text x="{MARGIN}" y="52">Each panel has its own scale. {escape(caption)}.</text>',
        *elements,
        "</svg>",
        "",
    ])
