//! Bytes that are UTF-8 but for some known damage.

/// The UTF-8 of U+FFFD.
const REPLACEMENT: [u8; 3] = [0xef, 0xbf, 0xbd];

fn is_continuation(byte: u8) -> bool {
    matches!(byte, 0x80..=0xbf)
}

/// A continuation that would be none of a no-break space or of an ellipsis read from windows-1252.
fn is_letter_continuation(byte: u8) -> bool {
    is_continuation(byte) && byte != 0x85 && byte != 0xa0
}

/// Length of a UTF-8 sequence at the start of `bytes` in which a space stands for the byte A0, if what it
/// would become is likely.
fn altered_sequence(bytes: &[u8]) -> Option<usize> {
    match *bytes {
        [0xc2 | 0xc3 | 0xc5 | 0xce | 0xd0 | 0xd9, b' ', ..] => Some(2),
        [0xe2 | 0xe3, b' ', third, ..] if is_letter_continuation(third) => Some(3),
        [0xe0..=0xe3, second, b' ', ..] if is_letter_continuation(second) => Some(3),
        [0xf0, second, third, fourth, ..]
            if [second, third, fourth].iter().filter(|&&byte| byte == b' ').count() == 1
                && [second, third, fourth].iter().all(|&byte| byte == b' ' || is_continuation(byte)) =>
        {
            Some(4)
        }
        _ => None,
    }
}

/// Whether `à ` stands here as a word of its own, so that its space is kept. Portuguese joins it: às,
/// àquele, àquela, àquilo.
fn is_a_grave_word(bytes: &[u8]) -> bool {
    const JOINED: [&[u8]; 5] = [b" ", b"quele", b"quela", b"quilo", b"s "];
    bytes.strip_prefix(b"\xc3 ").is_some_and(|after| !JOINED.iter().any(|word| after.starts_with(word)))
}

/// Put the byte A0 back where a space stands in the midst of a UTF-8 sequence.
pub(super) fn restore_byte_a0(bytes: Vec<u8>) -> Vec<u8> {
    if !(0..bytes.len()).any(|at| bytes.get(at..).and_then(altered_sequence).is_some()) {
        return bytes;
    }
    let mut spaced = Vec::with_capacity(bytes.len() + 16);
    let mut rest = bytes.as_slice();
    while let [first, after @ ..] = rest {
        if is_a_grave_word(rest) {
            spaced.extend_from_slice(b"\xc3\xa0 ");
            rest = after.get(1..).unwrap_or_default();
        } else {
            spaced.push(*first);
            rest = after;
        }
    }
    let mut at = 0;
    while let Some(rest) = spaced.get_mut(at..).filter(|rest| !rest.is_empty()) {
        let length = altered_sequence(rest);
        for byte in rest.iter_mut().take(length.unwrap_or(0)).filter(|byte| **byte == b' ') {
            *byte = 0xa0;
        }
        at += length.unwrap_or(1);
    }
    spaced
}

/// Length of a UTF-8 or CESU-8 sequence at the start of `bytes` that lost a byte: 1A stands for one that was
/// replaced, `?` may, but only once.
fn lossy_sequence(bytes: &[u8]) -> Option<usize> {
    let lost = |byte: u8| matches!(byte, 0x1a | b'?');
    let maybe = |byte: u8| byte == 0x1a || is_continuation(byte);
    let any = |byte: u8| lost(byte) || is_continuation(byte);
    match *bytes {
        [0xc2..=0xdf, 0x1a, ..] | [0xc2..=0xc3, b'?', ..] => Some(2),
        [0xed, 0xa0..=0xaf, b, 0xed, 0xb0..=0xbf, c, ..] if (lost(b) && any(c)) || (any(b) && lost(c)) => {
            Some(6)
        }
        [0xe0..=0xef, b, c, ..] if (lost(b) && maybe(c)) || (maybe(b) && lost(c)) => Some(3),
        [0xf0..=0xf4, b, c, d, ..]
            if (lost(b) && maybe(c) && maybe(d))
                || (maybe(b) && lost(c) && maybe(d))
                || (maybe(b) && maybe(c) && lost(d)) =>
        {
            Some(4)
        }
        [0x1a, ..] => Some(1),
        _ => None,
    }
}

/// Replace sequences that lost a byte by U+FFFD, and so the other lost bytes.
pub(super) fn replace_lossy_sequences(bytes: Vec<u8>) -> Vec<u8> {
    if !bytes.iter().any(|byte| matches!(byte, 0x1a | b'?')) {
        return bytes;
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    while let Some(&first) = rest.first() {
        let length = match lossy_sequence(rest) {
            Some(length) => {
                out.extend_from_slice(&REPLACEMENT);
                length
            }
            None => {
                out.push(first);
                1
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}

/// Decode UTF-8; where only the variants have such bytes, also surrogate pairs that were encoded each for
/// itself (CESU-8) and U+0000 as C0 80 (Java).
pub(super) fn decode_utf8(bytes: Vec<u8>) -> Option<String> {
    if bytes.iter().any(|byte| matches!(byte, 0xed | 0xc0)) {
        decode_utf8_variants(&bytes)
    } else {
        String::from_utf8(bytes).ok()
    }
}

fn decode_utf8_variants(bytes: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        let plain_length = (0..rest.len()).find(|&at| is_variant(rest, at)).unwrap_or(rest.len());
        let (plain, variant) = rest.split_at(plain_length);
        out.push_str(std::str::from_utf8(plain).ok()?);
        if variant.is_empty() {
            return Some(out);
        }
        let (c, length) = decode_variant(variant)?;
        out.push(c);
        rest = variant.get(length..)?;
    }
}

/// Whether a byte stands at `at` that UTF-8 itself does not allow there.
fn is_variant(bytes: &[u8], at: usize) -> bool {
    match bytes.get(at) {
        Some(0xc0) => true,
        Some(0xed) => matches!(bytes.get(at + 1), Some(0xa0..=0xbf)),
        _ => false,
    }
}

/// The character of a variant sequence and its length. ftfy finds these with regular expressions in which
/// `$` stands for a cut-off end, and `$` also matches before a last line feed, so that one is eaten as if it
/// were the sequence's last byte; so it is here.
fn decode_variant(bytes: &[u8]) -> Option<(char, usize)> {
    match *bytes {
        [0xc0, 0x80, ..] | [0xc0, b'\n'] => Some(('\0', 2)),
        [0xed, high @ 0xa0..=0xaf, middle, 0xed, low @ 0xb0..=0xbf, last, ..]
            if is_continuation(middle) && (is_continuation(last) || (last == b'\n' && bytes.len() == 6)) =>
        {
            let bits = |byte: u8, mask: u8| u32::from(byte & mask);
            let code =
                bits(high, 0x0f) << 16 | bits(middle, 0x3f) << 10 | bits(low, 0x0f) << 6 | bits(last, 0x3f);
            Some((char::from_u32(0x10000 + code)?, 6))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_become_no_break_spaces_inside_sequences() {
        assert_eq!(
            restore_byte_a0(b"\xc2 x \xc3 la \xc3 s \xe2 \x80".to_vec()),
            b"\xc2\xa0x \xc3\xa0 la \xc3\xa0s \xe2\xa0\x80"
        );
        assert_eq!(restore_byte_a0(b"\xf0\x9f \xa0 \xf0 \x80 ".to_vec()), b"\xf0\x9f\xa0\xa0 \xf0 \x80 ");
        assert_eq!(restore_byte_a0(b"\xe2 \x85 \xe9 \x80".to_vec()), b"\xe2 \x85 \xe9 \x80");
    }

    #[test]
    fn a_lost_byte_takes_its_sequence_with_it() {
        assert_eq!(
            replace_lossy_sequences(b"\xe2\x80\x1a \xc3? \xc4? \x1a ?".to_vec()),
            "\u{fffd} \u{fffd} ".bytes().chain(*b"\xc4? ").chain("\u{fffd} ?".bytes()).collect::<Vec<u8>>()
        );
    }

    #[test]
    fn variants_of_utf_8_are_decoded() {
        assert_eq!(
            decode_utf8(b"\xed\xa0\xbd\xed\xb8\x80!\xc0\x80".to_vec()).as_deref(),
            Some("\u{1f600}!\0")
        );
        assert_eq!(decode_utf8("\u{d55c}".into()).as_deref(), Some("\u{d55c}"));
        assert_eq!(decode_utf8(b"\xc0\n".to_vec()).as_deref(), Some("\0"));
        for broken in
            [&b"\xc0"[..], b"\xc0\x81", b"\xed\xa0\xbd", b"\xed\xb8\x80", b"\xed\xa0\xbdx", b"\xc0\n."]
        {
            assert_eq!(decode_utf8(broken.to_vec()), None, "{broken:x?}");
        }
    }
}
