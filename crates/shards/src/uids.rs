//! DataComp's lists of uids: which samples of a set belong to a subset.

/// What NumPy writes in front of records of two unsigned numbers, filled up so that they begin at a multiple of 64 bytes.
const MAGIC: &[u8] = b"\x93NUMPY";

/// A uid as a number: up to 32 hexadecimal digits, shorter ones with zeros in front.
pub fn parse_uid(text: &str) -> Option<u128> {
    let is_hexadecimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|_| is_hexadecimal && text.len() <= 32)
}

/// Uids of a file: NumPy's records `u8,u8` (the upper half, then the lower), the same without a header, or text with one in each line.
/// They come sorted; repeats stay.
///
/// # Errors
/// What is wrong with the bytes.
pub fn read_uids(bytes: &[u8]) -> Result<Vec<u128>, String> {
    let mut uids = match bytes.strip_prefix(MAGIC) {
        Some(rest) => {
            let (length, rest) = rest
                .get(2..)
                .and_then(|rest| rest.split_first_chunk::<2>())
                .ok_or("the header is cut off")?;
            let (header, records) = rest
                .split_at_checked(usize::from(u16::from_le_bytes(*length)))
                .ok_or("the header is cut off")?;
            let header = std::str::from_utf8(header).map_err(|_| "the header is no text")?;
            if !header.contains("('f0', '<u8'), ('f1', '<u8')") {
                return Err(format!("records of two `<u8` are expected, found {}", header.trim()));
            }
            numbers(records)?
        }
        None => match std::str::from_utf8(bytes).ok().map(lines) {
            Some(Some(uids)) => uids,
            _ => numbers(bytes)?,
        },
    };
    uids.sort_unstable();
    Ok(uids)
}

fn lines(text: &str) -> Option<Vec<u128>> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(parse_uid).collect()
}

fn numbers(records: &[u8]) -> Result<Vec<u128>, String> {
    let (records, rest) = records.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(format!("{} bytes are left after the last record of 16", rest.len()));
    }
    // Each half is little-endian, but the upper one comes first.
    Ok(records.iter().map(|record| u128::from_le_bytes(*record).rotate_left(64)).collect())
}

/// The bytes of NumPy's file of uids, sorted.
pub fn write_uids(uids: &[u128]) -> Vec<u8> {
    let mut uids = uids.to_vec();
    uids.sort_unstable();
    let text = format!(
        "{{'descr': [('f0', '<u8'), ('f1', '<u8')], 'fortran_order': False, 'shape': ({},), }}",
        uids.len()
    );
    let start = MAGIC.len() + 4;
    let length = (start + text.len() + 1).next_multiple_of(64) - start;
    let mut bytes = [MAGIC, b"\x01\x00", &u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes()].concat();
    bytes.extend_from_slice(format!("{text:<width$}\n", width = length - 1).as_bytes());
    bytes.extend(uids.iter().flat_map(|uid| uid.rotate_left(64).to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) -> Vec<u8> {
        std::fs::read(mobileclip_testing::golden::path(&format!("eval/uids/{name}"))).unwrap()
    }

    #[test]
    fn the_golden_files_say_the_same() {
        let numpy = read_uids(&golden("subset.npy")).unwrap();
        assert_eq!(numpy.len(), 20);
        assert_eq!(read_uids(&golden("raw.bin")).unwrap(), numpy);
        assert_eq!(read_uids(&golden("uids.txt")).unwrap(), numpy);
        assert_eq!(write_uids(&numpy), golden("subset.npy"));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        assert!(read_uids(b"\x93NUMPY\x01\x00\xff\xff").unwrap_err().contains("cut off"));
        assert!(read_uids(&golden("subset.npy")[..200]).unwrap_err().contains("left after the last record"));
        let floats = String::from_utf8_lossy(&golden("subset.npy")).replace("<u8", "<f8");
        assert!(read_uids(floats.as_bytes()).is_err());
        assert_eq!(read_uids(b"").unwrap(), []);
        assert_eq!(
            (parse_uid("00ff"), parse_uid("+f"), parse_uid(""), parse_uid("xyz")),
            (Some(255), None, None, None)
        );
        assert_eq!(parse_uid(&"0".repeat(33)), None);
    }
}
