//! What a file is by its first bytes.

use super::Format;

pub(super) fn format(bytes: &[u8]) -> Option<Format> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(b"\xff\xd8\xff") {
        Some(Format::Jpeg)
    } else if starts(b"\x89PNG\r\n\x1a\n") {
        Some(Format::Png)
    } else if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some(Format::WebP)
    } else if starts(b"GIF87a") || starts(b"GIF89a") {
        Some(Format::Gif)
    } else if starts(b"BM") {
        Some(Format::Bmp)
    } else if [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| starts(&magic[..])) {
        Some(Format::Tiff)
    } else {
        None
    }
}

/// A name for what is no image that can be read, so that a person sees at once what happened.
pub(super) fn describe(bytes: &[u8]) -> String {
    const MAGICS: [(&[u8], &str); 12] = [
        (b"%PDF", "a PDF document"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x1f\x8b", "gzip data"),
        (b"\xff\x0a", "a JPEG XL image"),
        (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
        (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
        (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
        (b"8BPS", "a Photoshop document"),
        (b"\0\0\x01\0", "an icon file"),
        (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
        (b"RIFF", "a RIFF file other than WebP"),
        (b"\xff\xd8", "a JPEG file cut after two bytes"),
    ];
    if let Some((_, name)) = MAGICS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return (*name).to_owned();
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return match bytes.get(8..12) {
            Some(b"avif" | b"avis") => "an AVIF image".to_owned(),
            Some(b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1") => "a HEIC image".to_owned(),
            _ => "an MP4 or QuickTime file".to_owned(),
        };
    }
    let head = bytes.get(..256).unwrap_or(bytes);
    if head.iter().all(|&b| b >= b' ' || b.is_ascii_whitespace()) {
        let text = String::from_utf8_lossy(head).trim_start().to_lowercase();
        return if text.starts_with("<!doctype html") || text.starts_with("<html") {
            "an HTML page".to_owned()
        } else if text.contains("<svg") {
            "an SVG drawing".to_owned()
        } else if text.starts_with("<?xml") {
            "an XML document".to_owned()
        } else {
            format!("text that begins with {:?}", text.chars().take(20).collect::<String>())
        };
    }
    let hex: Vec<String> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("bytes that begin with {}", hex.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_by_their_magic() {
        assert_eq!(format(b"\xff\xd8\xff\xe0"), Some(Format::Jpeg));
        assert_eq!(format(b"RIFF\0\0\0\0WEBPVP8 "), Some(Format::WebP));
        assert_eq!(format(b"RIFF\0\0\0\0WAVE"), None);
        assert_eq!(format(b"MM\0*"), Some(Format::Tiff));
        assert_eq!(format(b"\x89PNG"), None);
    }

    #[test]
    fn others_are_named() {
        assert_eq!(describe(b"\0\0\0\x18ftypheic\0\0"), "a HEIC image");
        assert_eq!(describe(b"<?xml version='1.0'?>\n<svg>"), "an SVG drawing");
        assert_eq!(describe(b"Hello"), "text that begins with \"hello\"");
        assert_eq!(describe(b"\x00\x01\x02"), "bytes that begin with 00 01 02");
    }
}
