"""Tables and charts of docs/performance/peers.json, into docs/performance.md and docs/performance/*.svg.

    python bench/peers/report.py
"""
import html
import json
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
TOWERS = {
    "s0": "S0 image", "s2": "S2 image", "s3": "S3 image", "s4": "S4 image", "b": "B image", "l14": "L-14 image",
    "text512": "text of S0, S2, B", "text768": "text of S3, S4, L-14",
}
NAMES = {
    "mobileclip-f32": "mobileclip", "openvino-f32": "OpenVINO", "onnxruntime": "ONNX Runtime", "pytorch": "PyTorch",
    "mobileclip-bf16": "mobileclip bf16", "openvino-bf16": "OpenVINO bf16", "mobileclip-int8": "mobileclip int8",
}
COLOURS = {
    "mobileclip-f32": "#0b6e4f", "openvino-f32": "#4f7cac", "onnxruntime": "#9a7fb5", "pytorch": "#d98e4a",
    "mobileclip-bf16": "#5fb88f", "openvino-bf16": "#9fbfdf", "mobileclip-int8": "#b5e2c8",
}
OURS, BF16, INT8 = "mobileclip-f32", "mobileclip-bf16", "mobileclip-int8"
F32_PEERS = ["openvino-f32", "onnxruntime", "pytorch"]
# Zero-shot top 1 on ImageNet, percent, as published: apple/ml-mobileclip, README.md. Image and text sections that time the towers.
PUBLISHED = {
    "MobileCLIP2-S0": (71.5, "s0", "text512"), "MobileCLIP2-S2": (77.2, "s2", "text512"), "MobileCLIP2-B": (79.4, "b", "text512"),
    "MobileCLIP2-S3": (80.7, "s3", "text768"), "MobileCLIP2-L/14": (81.9, "l14", "text768"), "MobileCLIP2-S4": (81.9, "s4", "text768"),
}


def table(header, rows):
    lines = [" | ".join(header), " | ".join(["---"] * len(header)), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines) + "\n" if rows else "Not measured yet.\n"


def shown(row, engine):
    """Median and minimum, or a dash."""
    entry = row["engines"].get(engine)
    return f"{entry['median_ms']:.1f} ({entry['min_ms']:.1f})" if entry else "–"


def limit(row, precision="f32"):
    """Milliseconds if every core did nothing but multiply-adds at its measured peak."""
    peak = row["peak_gflops"].get(precision)
    return 1e3 * row["batch"] * row["gflop"] / peak / row["threads"] if peak else None


def share(row, engine, precision="f32"):
    """Percent of the peak at the median."""
    least, entry = limit(row, precision), row["engines"].get(engine)
    return f"{100 * least / entry['median_ms']:.0f}" if least and entry else "–"


def times(row, peers, ours):
    """How many times as fast as the fastest of these."""
    ratios = [row["engines"][peer]["times_ours"] for peer in peers if peer in row["engines"]]
    if not ratios or ours not in row["engines"]:
        return "–"
    return f"**{min(ratios) / row['engines'][ours]['times_ours']:.2f}**"


def place(row):
    return [TOWERS[row["section"]], str(row["threads"])]


def single(rows):
    header = ["tower", "threads", "GFLOP", "limit", "mobileclip", "% of peak", *(NAMES[peer] for peer in F32_PEERS), "times as fast"]
    return table(header, [
        [*place(row), f"{row['gflop']:.2f}", f"{limit(row):.1f}", shown(row, OURS), share(row, OURS),
         *(shown(row, peer) for peer in F32_PEERS), times(row, F32_PEERS, OURS)]
        for row in rows
    ])


def reduced(rows):
    def quality(row, engine):
        entry = row["engines"].get(engine)
        return f"{entry['cosine']:.5f}" if entry else "–"

    header = ["tower", "threads", "mobileclip bf16", "% of bf16 peak", "OpenVINO bf16", "times as fast", "mobileclip int8",
              "times our bf16", "cosine bf16 / OpenVINO bf16 / int8"]
    return table(header, [
        [*place(row), shown(row, BF16), share(row, BF16, "bf16"), shown(row, "openvino-bf16"), times(row, ["openvino-bf16"], BF16),
         shown(row, INT8), times(row, [BF16], INT8), " / ".join(quality(row, engine) for engine in (BF16, "openvino-bf16", INT8))]
        for row in rows
    ])


def batches(rows):
    def rate(row, engine):
        entry = row["engines"].get(engine)
        return f"{1e3 * row['batch'] / entry['median_ms']:.1f}" if entry else "–"

    header = ["tower", "threads", "mobileclip", "% of peak", *(NAMES[peer] for peer in F32_PEERS), "times as fast",
              "mobileclip bf16", "OpenVINO bf16", "mobileclip int8"]
    return table(header, [
        [*place(row), rate(row, OURS), share(row, OURS), *(rate(row, peer) for peer in F32_PEERS), times(row, F32_PEERS, OURS),
         *(rate(row, engine) for engine in (BF16, "openvino-bf16", INT8))]
        for row in rows
    ])


def wide(rows):
    by_place = {(row["size"], row["threads"], row["variant"]): row for row in rows}
    engines = [OURS, "openvino-f32", "onnxruntime"]
    lines = []
    for size, threads in sorted({(row["size"], row["threads"]) for row in rows}):
        pair = [by_place.get((size, threads, name)) for name in ("MobileCLIP2-S3", "mci2-wide")]
        if None not in pair:
            cells = [f"{a:.1f} / {b:.1f} = **{b / a:.2f}**" for a, b in (
                (pair[0]["engines"][engine]["median_ms"], pair[1]["engines"][engine]["median_ms"]) for engine in engines)]
            lines.append([str(size), str(threads), *(f"{row['gflop']:.1f}" for row in pair), *cells])
    return table(["side", "threads", "GFLOP MCi3", "GFLOP wide MCi2", *(NAMES[engine] for engine in engines)], lines)


def conditions(rows):
    """What the rows have in common, and when they were measured."""
    def all_of(name):
        return ", ".join(dict.fromkeys(str(row[name]) for row in rows))

    versions = rows[-1]["versions"]
    libraries = ", ".join(f"{name} {number}" for name, number in versions.items())
    peaks = {precision: [row["peak_gflops"][precision] for row in rows if precision in row["peak_gflops"]] for precision in ("f32", "bf16", "int8")}
    peaks = ", ".join(f"{key} {min(values):.0f} to {max(values):.0f} GFLOP/s" for key, values in peaks.items() if values)
    dates = sorted(row["date"] for row in rows)
    loads = sorted(float(row["load"]) for row in rows)
    runs = [entry["runs"] for row in rows for entry in row["engines"].values() if row["batch"] == 1]
    return (
        f"{all_of('processor')} ({all_of('isa')}), {all_of('system')}, {dates[0]} to {dates[-1]} UTC, load {loads[0]:.1f} to {loads[-1]:.1f}, commit "
        f"{all_of('commit')}; {libraries}. Peak of one core, measured in the same run: {peaks}. Milliseconds are medians, minima in brackets, of "
        f"{min(runs)} to {max(runs)} runs at batch 1.\n"
    )


def svg(width, height, parts):
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12" fill="#222">\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def text(x, y, words, anchor="start", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{html.escape(words)}</text>'


def bars(rows):
    """Share of the f32 peak: one group of bars a tower, so that towers of all sizes fit one axis."""
    engines = [engine for engine in NAMES if any(engine in row["engines"] for row in rows)]
    scale, left, bar, gap, top = 2.6, 150, 12, 14, 62
    most = max(100 * limit(row) / entry["median_ms"] for row in rows for entry in row["engines"].values())
    ticks = range(0, int(most / 25 + 2) * 25, 25)
    group = bar * len(engines) + gap
    height = top + group * len(rows) + 10
    parts = [text(10, 20, "Share of one core's measured f32 peak, percent (batch 1, 1 thread; nominal operations)", extra=' font-weight="bold"')]
    for i, engine in enumerate(engines):
        x, y = 10 + 150 * (i % 4), 38 + 15 * (i // 4)
        parts += [f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{COLOURS[engine]}"/>', text(x + 14, y, NAMES[engine])]
    for tick in ticks:
        x = left + scale * tick
        parts += [f'<line x1="{x}" y1="{top + 4}" x2="{x}" y2="{height - 8}" stroke="{"#888" if tick == 100 else "#ddd"}"/>',
                  text(x, top + 2, str(tick), "middle", ' font-size="10"')]
    for g, row in enumerate(rows):
        y = top + 10 + g * group
        parts.append(text(left - 8, y + group / 2 - 4, TOWERS[row["section"]], "end"))
        for i, engine in enumerate(engines):
            if engine in row["engines"]:
                percent = 100 * limit(row) / row["engines"][engine]["median_ms"]
                parts += [f'<rect x="{left}" y="{y + i * bar}" width="{scale * percent:.1f}" height="{bar - 2}" fill="{COLOURS[engine]}"/>',
                          text(left + scale * percent + 4, y + i * bar + 9, f"{row['engines'][engine]['median_ms']:.0f} ms", extra=' font-size="9"')]
    return svg(int(left + scale * ticks[-1] + 50), height, parts)


def accuracy(rows):
    """Published accuracy against the time of image and text together."""
    by_section = {row["section"]: row["engines"] for row in rows}
    points = {}
    for engine in NAMES:
        for name, (percent, image, words) in PUBLISHED.items():
            if all(engine in by_section.get(section, {}) for section in (image, words)):
                ms = sum(by_section[section][engine]["median_ms"] for section in (image, words))
                points.setdefault(engine, []).append((ms, percent, name))
    if not points:
        return None
    import math

    left, top, width, height = 60, 60, 620, 360
    every = [ms for line in points.values() for ms, *_ in line]
    low, high = math.log10(min(every) * 0.8), math.log10(max(every) * 1.3)

    def at(ms, percent):
        return left + width * (math.log10(ms) - low) / (high - low), top + height * (83 - percent) / (83 - 70)

    parts = [text(10, 20, "Zero-shot ImageNet top 1 (published), percent, against image + text, ms (1 thread)", extra=' font-weight="bold"')]
    for percent in range(70, 84, 2):
        y = at(10, percent)[1]
        parts += [f'<line x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}" stroke="#ddd"/>', text(left - 8, y + 4, str(percent), "end")]
    for ms in (20, 50, 100, 200, 500, 1000, 2000, 5000):
        if low < math.log10(ms) < high:
            x = at(ms, 70)[0]
            parts += [f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + height}" stroke="#ddd"/>', text(x, top + height + 16, str(ms), "middle")]
    for i, (engine, line) in enumerate(points.items()):
        x, y = 10 + 150 * (i % 4), 38 + 15 * (i // 4)
        parts += [f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{COLOURS[engine]}"/>', text(x + 14, y, NAMES[engine])]
        for ms, percent, name in line:
            x, y = at(ms, percent)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[engine]}"/>')
            if engine == OURS:
                parts.append(text(x - 7, y - 7, name.removeprefix("MobileCLIP2-"), "end"))
    return svg(left + width + 20, top + height + 26, parts)


def main():
    rows = json.loads((DOCS / "performance/peers.json").read_text())
    order = list(TOWERS)
    towers = sorted((row for row in rows if row["section"] in TOWERS), key=lambda row: (order.index(row["section"]), row["threads"]))
    one, many = [row for row in towers if row["batch"] == 1], [row for row in towers if row["batch"] == 16]
    alone = [row for row in one if row["threads"] == 1]
    parts = [BEGIN, conditions(rows), "### Batch 1, f32\n", single(one)]
    if alone:
        (DOCS / "performance/peers.svg").write_text(bars(alone))
        parts.append("![Share of the peak](performance/peers.svg)\n")
    parts += ["### Batch 1, bf16 and int8\n", reduced(one), "### Batch 16, inputs per second\n", batches(many)]
    parts += ["### MCi3 against an MCi2 of as many parameters, milliseconds\n", wide([row for row in rows if row["section"] == "wide"])]
    chart = accuracy(alone)
    if chart:
        (DOCS / "performance/accuracy.svg").write_text(chart)
        parts += ["### Accuracy against latency\n", "![Accuracy against latency](performance/accuracy.svg)\n",
                  "Accuracies are those that [apple/ml-mobileclip](https://github.com/apple/ml-mobileclip) publishes; no accuracy was measured here.\n"]
    parts.append(END)
    page = (DOCS / "performance.md").read_text()
    before, rest = page.split(BEGIN)
    (DOCS / "performance.md").write_text(before + "\n".join(parts) + rest.split(END)[1])


if __name__ == "__main__":
    main()
