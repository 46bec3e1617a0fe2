/// The orientation (1 to 8) that an APP1 segment's Exif data gives to the image, if it is an Exif segment and does.
///
/// Exif 2.3: a TIFF structure behind six bytes; its first directory holds tag 0x0112.
pub(crate) fn orientation(segment: &[u8]) -> Option<u8> {
    let tiff = segment.strip_prefix(b"Exif\0\0")?;
    let big_endian = match tiff.get(..4)? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let u32_at = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    let directory = usize::try_from(u32_at(4)?).ok()?;
    for entry in 0..usize::from(u16_at(directory)?) {
        let at = directory.checked_add(2 + 12 * entry)?;
        if u16_at(at)? != 0x0112 {
            continue;
        }
        let value = match (u16_at(at + 2)?, u32_at(at + 4)?) {
            // SHORT, and LONG, which some writers use.
            (3, 1) => u32::from(u16_at(at + 8)?),
            (4, 1) => u32_at(at + 8)?,
            _ => return None,
        };
        return u8::try_from(value).ok().filter(|v| (1..=8).contains(v));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exif(big_endian: bool, kind: u16, value: u16) -> Vec<u8> {
        let u16_bytes = |v: u16| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
        let u32_bytes = |v: u32| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
        let mut segment = b"Exif\0\0".to_vec();
        segment.extend(if big_endian { b"MM\0*" } else { b"II*\0" });
        segment.extend(u32_bytes(8));
        segment.extend(u16_bytes(2));
        // A directory of the maker's tag and the orientation.
        segment.extend([u16_bytes(0x010F), u16_bytes(2)].concat());
        segment.extend([u32_bytes(4), u32_bytes(0)].concat());
        segment.extend([u16_bytes(0x0112), u16_bytes(kind)].concat());
        segment.extend(u32_bytes(1));
        segment.extend([u16_bytes(value), [0, 0]].concat());
        segment
    }

    #[test]
    fn both_byte_orders() {
        assert_eq!(orientation(&exif(true, 3, 6)), Some(6));
        assert_eq!(orientation(&exif(false, 3, 8)), Some(8));
        assert_eq!(orientation(&exif(false, 4, 2)), Some(2));
    }

    #[test]
    fn nonsense_is_no_orientation() {
        assert_eq!(orientation(&exif(true, 3, 0)), None);
        assert_eq!(orientation(&exif(true, 3, 9)), None);
        assert_eq!(orientation(&exif(true, 2, 1)), None);
        let whole = exif(false, 3, 6);
        for length in 0..whole.len() - 2 {
            assert_eq!(orientation(&whole[..length]), None, "{length} bytes");
        }
        let mut far = whole;
        far[10..14].fill(0xFF);
        assert_eq!(orientation(&far), None);
    }
}
