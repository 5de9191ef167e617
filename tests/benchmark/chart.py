"""Curves as SVG, by hand.

scaling   what one request costs as the queue grows, beside a list of nodes as big, both as multiples of what they cost with the fewest waiters
sharing   texts a second and waiting times for 1 to 256 callers, with and without shared calls; as a program from the JSON of policy or engines"""

import json
import math
import sys

WIDTH, HEIGHT = 420, 260
LEFT, TOP, RIGHT, BOTTOM = 48, 40, 16, 44
MOST = 8.0
STYLES = {(1, 0): "", (1, 1): "6 3", (100, 0): "2 3", (100, 1): "8 3 2 3"}
COLOURS = {"ours": "#1a63b0", "floor": "#999999"}


def panel(title, waiters, curves, offset):
    def x(index):
        return offset + LEFT + index * (WIDTH - LEFT - RIGHT) / (len(waiters) - 1)

    def y(growth):
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (min(growth, MOST) / MOST))

    parts = [f'<text x="{offset + LEFT}" y="22" font-weight="bold">{title}</text>']
    for growth in range(0, int(MOST) + 1, 2):
        parts.append(f'<line x1="{x(0)}" y1="{y(growth):.1f}" x2="{x(len(waiters) - 1)}" y2="{y(growth):.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{x(0) - 8}" y="{y(growth) + 4:.1f}" text-anchor="end">{growth}x</text>')
    for index, count in enumerate(waiters):
        parts.append(f'<text x="{x(index):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{count:,}</text>')
    parts.append(f'<text x="{(x(0) + x(len(waiters) - 1)) / 2:.1f}" y="{HEIGHT - 8}" text-anchor="middle">waiters</text>')
    for curve in curves:
        for side in ("floor", "ours"):
            points = " ".join(f"{x(index):.1f},{y(cost / curve[side][0]):.1f}" for index, cost in enumerate(curve[side]))
            dashes = STYLES[(curve["keys"], curve["random"])]
            parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[side]}" stroke-width="2" stroke-dasharray="{dashes}"/>')
    return parts


def legend(top):
    parts, left = [], LEFT
    words = [(COLOURS["ours"], "", "residency"), (COLOURS["floor"], "", "a list")]
    words += [("#333333", dashes, f"{keys} key{'s' if keys > 1 else ''}, {'at random' if random else 'in order'}") for (keys, random), dashes in STYLES.items()]
    for colour, dashes, label in words:
        parts.append(f'<line x1="{left}" y1="{top}" x2="{left + 26}" y2="{top}" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>')
        parts.append(f'<text x="{left + 32}" y="{top + 4}">{label}</text>')
        left += 60 + 7 * len(label)
    return parts


def scaling(waiters, curves):
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}" height="{HEIGHT + 30}" font-family="sans-serif" font-size="12" fill="#333333">',
        f'<rect width="{2 * WIDTH}" height="{HEIGHT + 30}" fill="white"/>',
    ]
    for index, (what, title) in enumerate((("cancel", "A request joins and is cancelled"), ("grant", "A request joins and is granted"))):
        parts += panel(f"{title}: cost beside that of 100 waiters", waiters, [curve for curve in curves if curve["what"] == what], index * WIDTH)
    parts += legend(HEIGHT + 14)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


ENGINES = ("#1a63b0", "#c0392b", "#2e8b57", "#8e6bbf")


def logarithmic(title, unit, callers, curves, offset):
    values = [point for _, _, points in curves for point in points]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))

    def x(index):
        return offset + LEFT + index * (WIDTH - LEFT - RIGHT) / (len(callers) - 1)

    def y(value):
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (math.log10(value) - low) / (high - low))

    parts = [f'<text x="{offset + LEFT}" y="22" font-weight="bold">{title}</text>']
    for power in range(low, high + 1):
        parts.append(f'<line x1="{x(0)}" y1="{y(10 ** power):.1f}" x2="{x(len(callers) - 1)}" y2="{y(10 ** power):.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{x(0) - 8}" y="{y(10 ** power) + 4:.1f}" text-anchor="end">{10 ** power:g}{unit}</text>')
    for index, count in enumerate(callers):
        parts.append(f'<text x="{x(index):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{count}</text>')
    parts.append(f'<text x="{(x(0) + x(len(callers) - 1)) / 2:.1f}" y="{HEIGHT - 8}" text-anchor="middle">callers</text>')
    for engine, shares, points in curves:
        path = " ".join(f"{x(index):.1f},{y(value):.1f}" for index, value in enumerate(points))
        dashes = "" if shares else "4 3"
        parts.append(f'<polyline points="{path}" fill="none" stroke="{ENGINES[engine]}" stroke-width="2" stroke-dasharray="{dashes}"/>')
    return parts


def sharing(points):
    engines = list(dict.fromkeys(point["engine"] for point in points))
    callers = sorted({point["callers"] for point in points})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}" height="{HEIGHT + 50}" font-family="sans-serif" font-size="12" fill="#333333">',
        f'<rect width="{2 * WIDTH}" height="{HEIGHT + 50}" fill="white"/>',
    ]
    panels = (("rate", "Texts a second", ""), ("p99", "99 of 100 answers come within", " s"))
    for place, (figure, title, unit) in enumerate(panels):
        curves = [
            (engines.index(engine), shares, [point[figure] for point in points if point["engine"] == engine and point["shares"] == shares])
            for engine in engines
            for shares in (True, False)
        ]
        parts += logarithmic(title, unit, callers, curves, place * WIDTH)
    left = LEFT
    for colour, engine in zip(ENGINES, engines):
        parts.append(f'<line x1="{left}" y1="{HEIGHT + 10}" x2="{left + 26}" y2="{HEIGHT + 10}" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{left + 32}" y="{HEIGHT + 14}">{engine}</text>')
        left += 60 + 7 * len(engine)
    for left, dashes, words in ((LEFT, "", "calls are shared"), (LEFT + 180, "4 3", "each request has a call of its own")):
        parts.append(f'<line x1="{left}" y1="{HEIGHT + 32}" x2="{left + 26}" y2="{HEIGHT + 32}" stroke="#333333" stroke-width="2" stroke-dasharray="{dashes}"/>')
        parts.append(f'<text x="{left + 32}" y="{HEIGHT + 36}">{words}</text>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(sharing(json.load(sys.stdin)))
