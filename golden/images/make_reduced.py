"""Write reduced.json: what Pillow's draft decoding makes of the JPEG files here and among the decoder's own tests.

    python golden/images/make_reduced.py        (Pillow 13.0.0)

For each file and divisor (2, 4, 8): width, height, and the SHA-256 of the RGB bytes.
"""
import hashlib
import json
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("golden/images", "crates/jpeg/tests/files")


def drafted(path, divisor):
    """None where Pillow would choose another divisor, or refuses the file."""
    try:
        image = Image.open(path)
        image.draft(None, tuple(max(1, side // divisor) for side in image.size))
        if getattr(image, "decoderconfig", ())[:1] != (divisor,):
            return None
        image = image.convert("RGB")
    except (OSError, SyntaxError):
        return None
    return [*image.size, hashlib.sha256(image.tobytes()).hexdigest()]


def main():
    rows = {}
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.jpg")):
        made = {str(divisor): row for divisor in (2, 4, 8) if (row := drafted(path, divisor))}
        if made:
            rows[str(path.relative_to(ROOT))] = made
    lines = (f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    (ROOT / "golden/images/reduced.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
