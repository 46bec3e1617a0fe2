"""Compare the tokens of random texts with open_clip's.

    python3.11 -m venv venv && venv/bin/pip install -r compat/tokens/requirements.txt
    cargo build --release -p mobileclip-text --example tokens
    venv/bin/python compat/tokens/fuzz.py [SEED] [TEXTS]

Texts with characters newer than Python's Unicode tables are left out: Rust's tables are newer and lower-case them.
Exit code 1 if a text differs; the first ten are printed.
"""
import html
import json
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import ftfy.bad_codecs  # noqa: F401  registers the sloppy codecs and the variants of UTF-8
from ftfy.chardata import CHARMAP_ENCODINGS
from open_clip.tokenizer import SimpleTokenizer, _clean_lower

ROOT = Path(__file__).resolve().parents[2]
BINARY = ROOT / "target/release/examples/tokens"

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 1
TEXTS = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000

R = random.Random(SEED)
ASSIGNED = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
LOW = [c for c in ASSIGNED if ord(c) < 0x3000]
# The characters of all code pages: what mojibake consists of.
MOJIBAKE = sorted({c for codec in CHARMAP_ENCODINGS for c in bytes(range(256)).decode(codec)})
# Characters with something to them: width, punctuation, composition, case.
ODD = [c for c in ASSIGNED if 0xFF00 <= ord(c) <= 0xFFFF or 0x2000 <= ord(c) < 0x2070
       or unicodedata.normalize("NFC", c) != c or len(c.lower()) != 1 or c in "ſΣİ\u0345"]
SENTENCES = ["naïve café", "“quoted” text", "it’s — an em-dash…", "São Paulo às 5", "à la mode", "crème brûlée à côté", "Zażółć gęślą jaźń",
             "Příliš žluťoučký kůň", "Съешь ещё этих булок", "ΟΔΟΣ και ο σοφός ΠΑΠΠΟΣ", "日本語の写真", "서울의 밤", "smile 😀 now", "50 °C",
             "£9.99 ½ price", "İstanbul ışık", "• ™ ® ©", "🏴󠁧󠁢󠁷󠁬󠁳󠁿👩‍👩‍👧", "نص حكيم له سر", "Tiếng Việt", "¿Dónde está el niño?"]
WORDS = "a photo of the cat it's DON'T we'll 2024 12:30 (x) C++ end. R&D \"quoted\" <b> <end_of_text> <start_of_text> '".split()
CONTROLS = list("\x00\x07\x08\x0b\x0c\x1a\x1b\x1c\x7f\x80\x81\x85\x92\xa0\xad\u2028\u200b\u206a\u3000\ufeff\ufffc\ufffd\n\r\t <") + ["\r\n", "\x1b[0m"]
NAMES = list(html.entities.html5)


def cesu_8(text):
    """UTF-8 as Java writes it: surrogates encoded one by one, U+0000 in two bytes."""
    utf_16 = text.encode("utf-16-be")
    units = [chr(utf_16[i] << 8 | utf_16[i + 1]) for i in range(0, len(utf_16), 2)]
    return b"".join(b"\xc0\x80" if u == "\0" else u.encode("utf-8", "surrogatepass") for u in units)


def mistaken(text):
    """Decoded with the wrong encoding, up to three times."""
    for _ in range(R.choice([1, 1, 1, 2, 3])):
        encoded = cesu_8(text) if R.random() < 0.15 else text.encode()
        try:
            text = encoded.decode(R.choice(CHARMAP_ENCODINGS))
        except UnicodeDecodeError:
            pass
    return text[:400]


def damaged(text):
    """With a lost or foreign character, other case, escaped."""
    at = R.randint(0, len(text))
    return R.choice([
        lambda: text.replace("\xa0", " "),
        lambda: "".join(R.choice("\ufffd? ") if "\x80" <= c < "\xa0" else c for c in text),
        lambda: html.escape(text),
        lambda: text.upper(),
        lambda: text[:at] + text[at + 1:],
        lambda: text[:at] + "\ufffd" + text[at + 1:],
        lambda: text[:at] + R.choice(MOJIBAKE + CONTROLS) + text[at:],
        lambda: text + "\n",
    ])()


def source():
    return R.choice([
        lambda: R.choice(SENTENCES),
        lambda: " ".join(R.choice(WORDS) for _ in range(R.randint(1, 5))),
        lambda: "".join(R.choice(LOW) for _ in range(R.randint(1, 6))),
        lambda: "".join(R.choice(ASSIGNED) for _ in range(R.randint(1, 6))),
    ])()


def mojibake():
    text = " ".join(mistaken(source()) if R.random() < 0.7 else source() for _ in range(R.randint(1, 4)))
    for _ in range(R.choice([0, 0, 1, 2, 3])):
        text = damaged(text)
    return text


def soup():
    return "".join(R.choice(MOJIBAKE) if R.random() < 0.85 else R.choice("abZ \n.é") for _ in range(R.randint(1, 12)))


def byte_sequences():
    """Bytes shaped like UTF-8 and its variants, some lost, read with a wrong encoding."""
    def more(n):
        return bytes(R.choice([R.randint(0x80, 0xBF)] * 8 + [0x20, 0x1A, 0x3F, 0xA0]) for _ in range(n))

    def sequence():
        lead = R.choice([0xC2, 0xC3, 0xC5, 0xD0, R.randint(0xC2, 0xDF), R.randint(0xE0, 0xEF), 0xE2, R.randint(0xF0, 0xF4), 0xF0])
        return R.choice([
            lambda: bytes([lead]) + more(1 + (lead >= 0xE0) + (lead >= 0xF0)),
            lambda: bytes([0xED, R.randint(0xA0, 0xAF)]) + more(1) + bytes([0xED, R.randint(0xB0, 0xBF)]) + more(1),
            lambda: R.choice([b"\xc0\x80", b"\xc0", b"\xed\xa0\x80", b"\xc0\n", b"\xed\xa0\x80\xed\xb0\n", b"\xed\n"]),
            lambda: b"\xc3 " + R.choice([b"", b" ", b"s ", b"quele", b"la"]),
            lambda: R.choice([b"a", b" the ", b"Z", b"?", b"\x1a", b"\n"]),
            lambda: R.choice(SENTENCES).encode()[:R.randint(1, 9)],
        ])()

    text = b"".join(sequence() for _ in range(R.randint(1, 6))).decode(R.choice(CHARMAP_ENCODINGS))
    return text.replace("\x1a", "\ufffd") if R.random() < 0.2 else text


def references():
    def reference():
        code = R.choice([R.randint(0, 300), R.randint(0, 0x110005), 0xFFFE, 0xD800, 59, 38, 60, 128, 10**12])
        return R.choice([
            lambda: "&" + R.choice([str, str, str.upper, str.lower])(R.choice(NAMES)).rstrip(R.choice(["", ";"])) + R.choice(["", "", "x;", "é"]),
            lambda: "&#%d%s" % (code, R.choice([";", ""])),
            lambda: "&#%s%x%s" % (R.choice("xX"), code, R.choice([";", "", "g"])),
            lambda: "&" + R.choice(["amp;", "#38;", "AMP;"]) * R.randint(1, 9) + R.choice(["", "lt;", "eacute;", "EACUTE;", "#39;"]),
            lambda: R.choice(["<", "\n", " ", ";", "&", "&#"]),
            lambda: R.choice(WORDS) + " ",
        ])()

    return "".join(reference() for _ in range(R.randint(1, 6)))


def odd():
    return "".join(R.choice([R.choice(ASSIGNED), R.choice(LOW), R.choice(ODD), R.choice(CONTROLS), R.choice("aΣς'.-[;m1 \u0301\u0308\u0323")])
                   for _ in range(R.randint(1, 14)))


def words():
    alphabet = R.choice(["abcdefghijklmnopqrstuvwxyz", "aeioubst", "asd", "ab", "日本語の写真", "абвгдеж"])
    return "".join(R.choice(alphabet) if R.random() < 0.9 else R.choice(["'s", "'RE", "'ſ", " ", "3", "!", "…"] + WORDS)
                   for _ in range(R.randint(1, 60)))


def main():
    kinds = [mojibake, mojibake, mojibake, soup, byte_sequences, byte_sequences, references, odd, words]
    texts = [R.choice(kinds)() for _ in range(TEXTS)]
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    output = subprocess.run([BINARY], input=lines.encode(), stdout=subprocess.PIPE, check=True).stdout.decode()
    tokenizer = SimpleTokenizer()
    compared = differing = 0
    for text, line in zip(texts, output.split("\n")):
        expected = _clean_lower(text)
        if any(unicodedata.category(c) == "Cn" for c in expected):
            continue
        compared += 1
        expected = [expected, [tokenizer.sot_token_id] + tokenizer.encode(text) + [tokenizer.eot_token_id]]
        found = json.loads(line)
        if found != expected:
            differing += 1
            if differing <= 10:
                print(f"{ascii(text)}\n  expected {ascii(expected)}\n  found    {ascii(found)}")
    print(f"{compared} texts compared, {differing} differ")
    sys.exit(differing > 0)


main()
