#!/usr/bin/env python3
"""Makes the JPEG files beside this script and expected.json: what Pillow 13.0.0 (libjpeg-turbo 3.2.0) decodes them to.

    pip install pillow==13.0.0 && python make_files.py

The coefficients are random, so that every structure of the format can be had, also those that no encoder at hand
writes: any sampling, scan script, colour marker, code length, order of scans. Running it again gives the same bytes.
"""
import hashlib, io, json, pathlib, random, warnings
from PIL import Image

NATURAL = [0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
           28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
           47, 55, 62, 63]


def segment(marker, body):
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + bytes(body)


class Code:
    """A complete Huffman code over shuffled symbols; `style` 0: nearly equal lengths, 1: one code a length, then 16 bits."""

    def __init__(self, rng, symbols, style):
        self.symbols = list(symbols)
        rng.shuffle(self.symbols)
        self.counts, free, left = [], 1, len(self.symbols)
        for length in range(1, 17):
            free *= 2
            if style == 0:
                count = 0 if free - 1 < left and length < 8 else min(left, free - 2)
            else:
                count = min(left, 1 if free > 2 else 0) if length < 12 else (left if length == 16 else 0)
            count = left if length == 16 else max(0, count)
            self.counts.append(count)
            free -= count
            left -= count
        self.codes, code, at = {}, 0, 0
        for length, count in enumerate(self.counts, 1):
            for symbol in self.symbols[at:at + count]:
                self.codes[symbol] = (code, length)
                code += 1
            at += count
            code <<= 1

    def define(self, slot):
        return bytes([slot]) + bytes(self.counts) + bytes(self.symbols)


class Bits:
    def __init__(self):
        self.value, self.count, self.out = 0, 0, bytearray()

    def put(self, value, count):
        self.value, self.count = self.value << count | value & (1 << count) - 1, self.count + count
        while self.count >= 8:
            byte = self.value >> self.count - 8 & 255
            self.out += bytes([byte] if byte < 255 else [255, 0])
            self.count -= 8
        self.value &= (1 << self.count) - 1

    def symbol(self, code, symbol):
        self.put(*code.codes[symbol])

    def fill(self):
        if self.count:
            self.put((1 << 8 - self.count) - 1, 8 - self.count)


def sized(value):
    size = abs(value).bit_length()
    return size, value if value >= 0 else value + (1 << size) - 1


class File:
    def __init__(self, rng, width, height, sampling, progressive=False, ids=(1, 2, 3, 4), head=b"", steps=12, wide_steps=False,
                 dense=3, restart=0, style=0, sof=None, precision=8, peak=40, typical=False):
        self.rng, self.progressive, self.restart, self.ids = rng, progressive, restart, ids
        h_max, v_max = max(s[0] for s in sampling), max(s[1] for s in sampling)
        self.across, self.down = -(-width // (8 * h_max)), -(-height // (8 * v_max))
        self.parts = []
        for h, v in sampling:
            dc, rows = 0, []
            for _ in range(self.down * v):
                row = []
                for _ in range(self.across * h):
                    block = [0] * 64
                    dc = max(-500, min(500, dc + rng.randrange(-60, 61)))
                    block[0] = dc
                    for _ in range(rng.choice([0, 1, dense, dense * 4])):
                        block[min(63, 1 + int(rng.expovariate(.12)))] = rng.choice([1, -1, 2, -3, rng.randrange(-peak, peak + 1)])
                    row.append(block)
                rows.append(row)
            self.parts.append(dict(h=h, v=v, rows=rows, columns=-(-width * h // (8 * h_max)), lines=-(-height * v // (8 * v_max))))
        self.dc = [Code(rng, range(12), style) for _ in range(2)]
        self.ac = [Code(rng, range(256), style) for _ in range(2)]
        tables = [[rng.randrange(1, steps) for _ in range(64)] for _ in range(2)]
        self.out = bytearray(b"\xff\xd8" + head)
        for i, table in enumerate(tables):
            values = b"".join(v.to_bytes(2, "big") for v in table) if wide_steps else bytes(table)
            self.out += segment(0xDB, bytes([16 * wide_steps + i]) + values)
        specs = b"".join(bytes([i, p["h"] << 4 | p["v"], n > 0]) for n, (i, p) in enumerate(zip(ids, self.parts)))
        size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
        sof = sof or (0xC2 if progressive else 0xC0)
        self.out += segment(sof, bytes([precision]) + size + bytes([len(sampling)]) + specs)
        if typical:
            b = io.BytesIO()
            Image.new("RGB", (8, 8)).save(b, "JPEG")
            self.dc, self.ac = typical_codes(b.getvalue())
        else:
            self.out += segment(0xC4, b"".join(c.define(i) for i, c in enumerate(self.dc)))
            self.out += segment(0xC4, b"".join(c.define(16 + i) for i, c in enumerate(self.ac)))
        if restart:
            self.out += segment(0xDD, restart.to_bytes(2, "big"))

    def mcus(self, which):
        if len(which) == 1:
            part = self.parts[which[0]]
            return [[(0, part["rows"][y][x])] for y in range(part["lines"]) for x in range(part["columns"])]
        return [[(n, self.parts[c]["rows"][my * self.parts[c]["v"] + y][mx * self.parts[c]["h"] + x])
                 for n, c in enumerate(which) for y in range(self.parts[c]["v"]) for x in range(self.parts[c]["h"])]
                for my in range(self.down) for mx in range(self.across)]

    def scan(self, *which, start=0, end=None, high=0, low=0, between=b""):
        """One scan of components `which`; band and bit positions for progressive files."""
        end = (0 if start == 0 else 63) if self.progressive and end is None else 63 if end is None else end
        self.out += between
        tables = [min(c, 1) for c in which]
        specs = b"".join(bytes([self.ids[c], t << 4 | t]) for c, t in zip(which, tables))
        self.out += segment(0xDA, bytes([len(which)]) + specs + bytes([start, end, high << 4 | low]))
        bits, predictions, run, corrections = Bits(), [0] * 4, 0, []

        def end_run():
            nonlocal run
            if run:
                size = run.bit_length() - 1
                bits.symbol(ac, size << 4)
                bits.put(run, size)
                run = 0
            for bit in corrections:
                bits.put(bit, 1)
            corrections.clear()

        ac = self.ac[tables[0]]
        for i, mcu in enumerate(self.mcus(which)):
            if self.restart and i and i % self.restart == 0:
                end_run()
                bits.fill()
                bits.out += bytes([0xFF, 0xD0 + (i // self.restart - 1) % 8])
                predictions = [0] * 4
            for n, block in mcu:
                if not self.progressive or start == 0 and high == 0:
                    value = block[0] >> low
                    size, tail = sized(value - predictions[n])
                    predictions[n] = value
                    bits.symbol(self.dc[tables[n]], size)
                    bits.put(tail, size)
                elif start == 0:
                    bits.put(block[0] >> low, 1)
                if not self.progressive or start > 0:
                    code = self.ac[tables[n]]
                    run = self.band(bits, code, block, max(start, 1), end, high, low, run, corrections, end_run)
        end_run()
        bits.fill()
        self.out += bits.out
        return self

    def band(self, bits, code, block, start, end, high, low, run, corrections, end_run):
        sizes = [abs(v) >> low for v in block]
        is_new = (lambda k: sizes[k] == 1) if high else (lambda k: sizes[k] > 0)
        last = max((k for k in range(start, end + 1) if is_new(k)), default=-1)
        zeros, pending = 0, []
        for k in range(start, end + 1):
            if high and sizes[k] > 1:
                pending.append(sizes[k] & 1)
                continue
            if k > last:
                continue
            if not sizes[k]:
                zeros += 1
                if zeros == 16:
                    if any(is_new(j) for j in range(k + 1, last + 1)):
                        end_run()
                        run = 0
                        bits.symbol(code, 0xF0)
                        for bit in pending:
                            bits.put(bit, 1)
                        pending, zeros = [], 0
                continue
            end_run()
            run = 0
            size, tail = (1, int(block[k] > 0)) if high else sized(sizes[k] if block[k] > 0 else -sizes[k])
            bits.symbol(code, zeros << 4 | size)
            bits.put(tail, size)
            for bit in pending:
                bits.put(bit, 1)
            pending, zeros = [], 0
        if self.progressive:
            if last < end:
                run += 1
                corrections += pending
        elif last < end:
            bits.symbol(code, 0)
        return run

    def done(self, tail=b"\xff\xd9"):
        return bytes(self.out + tail)


def typical_codes(jpeg):
    """The Huffman tables of a file by Pillow: those of annex K.3."""
    found, at = {}, 2
    while jpeg[at + 1] != 0xDA:
        length = int.from_bytes(jpeg[at + 2:at + 4], "big")
        if jpeg[at + 1] == 0xC4:
            code = Code.__new__(Code)
            code.counts, code.symbols = list(jpeg[at + 5:at + 21]), list(jpeg[at + 21:at + 2 + length])
            code.codes, value, first = {}, 0, 0
            for bits, count in enumerate(code.counts, 1):
                for symbol in code.symbols[first:first + count]:
                    code.codes[symbol] = (value, bits)
                    value += 1
                first, value = first + count, value << 1
            found[jpeg[at + 4]] = code
        at += 2 + length
    return [found[0], found[1]], [found[16], found[17]]


JFIF = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
YCC = [(2, 2), (1, 1), (1, 1)]


def adobe(transform):
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


def cases():
    """Name, what is special, file."""
    rng = random.Random(2)

    def file(width, height, sampling, **options):
        return File(rng, width, height, sampling, **options)

    for name, sampling in {
        "h4v1": [(4, 1), (1, 1), (1, 1)], "h1v2": [(1, 2), (1, 1), (1, 1)], "h1v4": [(1, 4), (1, 1), (1, 1)],
        "h4v2": [(4, 2), (1, 1), (1, 1)], "h3v1": [(3, 1), (1, 1), (1, 1)], "h2v3": [(2, 3), (1, 1), (1, 1)],
        "mixed": [(2, 2), (2, 1), (1, 2)], "luma_small": [(1, 1), (2, 2), (2, 1)], "h4v4": [(4, 4), (2, 2), (4, 2)],
    }.items():
        one = sum(h * v for h, v in sampling) <= 10
        f = file(43, 37, sampling)
        yield f"sampling_{name}", f"sampling {sampling}", (f.scan(0, 1, 2) if one else f.scan(0).scan(1).scan(2)).done()
    yield "width_4", "too narrow for the horizontal triangle filter", file(4, 20, YCC).scan(0, 1, 2).done()
    yield "width_5", "just wide enough for it", file(5, 20, YCC).scan(0, 1, 2).done()
    yield "width_2_h2v1", "the same across only", file(2, 9, [(2, 1), (1, 1), (1, 1)]).scan(0, 1, 2).done()
    yield "gray_h2v2", "a component alone with sampling factors", file(40, 35, [(2, 2)]).scan(0).done()
    yield "restart_1", "a restart marker after each MCU", file(50, 30, YCC, restart=1).scan(0, 1, 2).done()
    yield "restart_5", "restart markers in the middle of rows", file(50, 30, YCC, restart=5).scan(0, 1, 2).done()
    yield "separate_scans", "a scan for each component", file(33, 34, YCC, restart=7).scan(0).scan(1).scan(2).done()
    yield "two_scans", "luminance, then both chrominances", file(33, 34, YCC).scan(0).scan(1, 2).done()
    yield "steps_16", "16-bit quantisation tables, extended sequential", file(
        33, 34, YCC, wide_steps=True, steps=700, sof=0xC1, peak=5).scan(0, 1, 2).done()
    yield "long_codes", "codes of up to 16 bits", file(40, 40, YCC, style=1, dense=12, peak=1000).scan(0, 1, 2).done()
    yield "out_of_range", "coefficients whose transform leaves 16 bits", file(
        32, 32, YCC, steps=255, dense=15, peak=1000).scan(0, 1, 2).done()
    yield "no_huffman", "Motion JPEG: the typical tables are left out", file(33, 34, YCC, typical=True).scan(0, 1, 2).done()
    yield "fill_bytes", "fill bytes and junk before markers", file(20, 20, YCC, head=b"\xff\xff\xff\xfe\0\3x\1\2").scan(
        0, 1, 2, between=b"ab\xff\0\xff").done()
    yield "no_end_marker", "bytes after the data, no end marker", file(20, 20, [(1, 1)]).scan(0).done(b"\0" * 9)
    yield "rgb_ids", "component ids R, G, B", file(20, 20, [(1, 1)] * 3, ids=b"RGB").scan(0, 1, 2).done()
    yield "rgb_adobe", "Adobe transform 0", file(20, 20, YCC, head=adobe(0)).scan(0, 1, 2).done()
    yield "rgb_jfif", "JFIF overrules it", file(20, 20, YCC, head=JFIF + adobe(0)).scan(0, 1, 2).done()
    yield "cmyk", "four components, no marker", file(20, 20, [(1, 1)] * 4).scan(0, 1, 2, 3).done()
    yield "cmyk_adobe", "Adobe transform 0, subsampled", file(30, 20, [(2, 1), (1, 1), (1, 1), (2, 1)], head=adobe(0)).scan(
        0, 1, 2, 3).done()
    yield "ycck", "Adobe transform 2", file(30, 30, [(2, 2), (1, 1), (1, 1), (2, 2)], head=adobe(2)).scan(0, 1, 2, 3).done()

    def progressive(**options):
        return file(*options.pop("size", (43, 37)), options.pop("sampling", YCC), progressive=True, **options)

    def bands(f, parts=3):
        for c in range(parts):
            f.scan(c, start=1, end=5).scan(c, start=6)
        return f

    yield "bands", "spectral selection", bands(progressive().scan(0, 1, 2)).done()
    full = progressive(restart=4).scan(0, 1, 2, low=1)
    for c in range(3):
        full.scan(c, start=1, end=9, low=2).scan(c, start=10, low=2).scan(c, start=1, high=2, low=1)
    full.scan(0, 1, 2, high=1)
    for c in range(3):
        full.scan(c, start=1, high=1)
    yield "refined", "successive approximation with restart markers", full.done()
    yield "refined_ycck", "the same in four components", progressive(
        sampling=[(2, 2), (1, 1), (1, 1), (2, 2)], head=adobe(2)).scan(0).scan(1, 2).scan(3, low=1).scan(
        0, start=1, low=3).scan(0, start=1, high=3, low=2).scan(3, high=1).done()
    yield "dc_only", "block smoothing of all coefficients", progressive(size=(70, 61)).scan(0, 1, 2).done()
    yield "dc_unrefined", "the same, DC not complete either", progressive(size=(70, 61)).scan(0, 1, 2, low=2).done()
    yield "first_band", "block smoothing beside known coefficients", progressive(size=(70, 61)).scan(0, 1, 2).scan(
        0, start=1, end=2).scan(1, start=1, low=2).done()
    yield "dc_only_gray_h2v2", "block smoothing counts with the factors", progressive(size=(40, 50), sampling=[(2, 2)]).scan(0).done()
    yield "dc_only_h1v2", "the same with an odd number of block rows", progressive(
        size=(40, 36), sampling=[(1, 2), (1, 1), (1, 1)]).scan(0, 1, 2).done()
    yield "dc_only_narrow", "block smoothing of one column", progressive(size=(8, 70)).scan(0, 1, 2).done()

    data = file(40, 40, YCC, restart=2).scan(0, 1, 2).done()
    for name, old, new in [("lost", 0xD1, 0x00), ("doubled", 0xD1, 0xD0), ("far", 0xD1, 0xD4)]:
        yield f"restart_{name}", "a wrong restart marker", data.replace(bytes([255, old]), bytes([255, new]), 1)
    data = file(60, 40, YCC).scan(0, 1, 2).done()
    middle = data.index(b"\xff\xda") + 200
    yield "marker_inside", "a marker in the middle: the rest is gray", data[:middle] + b"\xff\xd9"
    yield "bad_bits", "flipped bits", data[:middle] + bytes(b ^ 0x55 for b in data[middle:middle + 9]).replace(
        b"\xff", b"\0") + data[middle + 9:]
    yield "cut", "data that ends", data[:middle]

    yield "fractional", "factors 3 and 2", file(20, 20, [(3, 1), (2, 1), (1, 1)]).scan(0, 1, 2).done()
    yield "scan_order", "components not in the frame's order", file(20, 20, YCC).scan(2).scan(1, 0).done()
    yield "two_components", "neither gray nor RGB", file(20, 20, [(1, 1)] * 2).scan(0, 1).done()
    yield "twelve_bits", "12 bits", file(20, 20, [(1, 1)], precision=12, sof=0xC1).scan(0).done()
    yield "lossless", "lossless", file(20, 20, [(1, 1)], sof=0xC3).scan(0).done()
    yield "hierarchical", "hierarchical", file(20, 20, [(1, 1)], sof=0xC5).scan(0).done()
    yield "big_mcu", "more than 10 blocks in an MCU", file(20, 20, [(4, 2), (2, 1), (1, 1)]).scan(0, 1, 2).done()
    yield "second_frame", "two frame headers", file(20, 20, [(1, 1)]).scan(0).done(segment(0xC0, b"\x08\0\1\0\1\1\1\x11\0"))
    yield "no_frame", "a scan before the frame header", b"\xff\xd8" + segment(0xDA, b"\1\1\0\0\x3f\0") + b"\0\xff\xd9"
    yield "no_end_progressive", "no end marker", progressive().scan(0, 1, 2).done(b"")
    yield "band_of_two", "an AC band of two components", progressive().scan(0, 1, 2).done(
        segment(0xDA, bytes([2, 1, 0, 2, 0, 1, 5, 0])) + b"\0\xff\xd9")


def main():
    warnings.simplefilter("ignore")
    folder = pathlib.Path(__file__).parent
    rows = []
    for name, note, data in cases():
        (folder / f"{name}.jpg").write_bytes(data)
        row = {"file": f"{name}.jpg", "note": note}
        try:
            image = Image.open(io.BytesIO(data))
            image.load()
            image = image if image.mode == "L" else image.convert("RGB")
            row |= {"width": image.width, "height": image.height, "channels": len(image.getbands()),
                    "sha256": hashlib.sha256(image.tobytes()).hexdigest()}
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {error}".split(" <")[0]
        rows.append(row)
    lines = ",\n".join(json.dumps(row) for row in rows)
    (folder / "expected.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
