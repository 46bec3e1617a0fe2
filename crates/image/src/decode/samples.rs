//! Samples as they lie in files to bytes of RGB.

/// 256 colours.
#[derive(Clone)]
pub(super) struct Palette([[u8; 3]; 256]);

impl Palette {
    /// The given colours; indices beyond them are black.
    pub(super) fn new(colours: impl Iterator<Item = [u8; 3]>) -> Palette {
        let mut table = [[0; 3]; 256];
        for (entry, colour) in table.iter_mut().zip(colours) {
            *entry = colour;
        }
        Palette(table)
    }

    /// As [`Palette::new`], but where every colour is the shade of its own index, so are those beyond: Pillow takes such a file for
    /// a grey one.
    pub(super) fn new_or_grey(colours: impl Iterator<Item = [u8; 3]> + Clone) -> Palette {
        let is_grey = colours.clone().zip(0u8..=255).all(|(colour, shade)| colour == [shade; 3]);
        if is_grey { Palette::grey(8) } else { Palette::new(colours) }
    }

    /// Shades of grey for samples of `bits` bits: 0 is black, the highest number white.
    pub(super) fn grey(bits: u8) -> Palette {
        let factor = match bits {
            1 => 255,
            2 => 85,
            4 => 17,
            _ => 1,
        };
        Palette::new((0u8..=255).map(|v| [v.wrapping_mul(factor); 3]))
    }

    /// White for black, for samples of `bits` bits.
    pub(super) fn inverted(mut self, bits: u8) -> Palette {
        let used = if bits >= 8 { 256 } else { 1 << bits };
        if let Some(used) = self.0.get_mut(..used) {
            used.reverse();
        }
        self
    }

    pub(super) fn colour(&self, index: u8) -> [u8; 3] {
        // There are as many entries as indices.
        self.0.get(usize::from(index)).copied().unwrap_or_default()
    }
}

/// The samples of a row of `bits` (1, 2, 4 or 8) each, the highest bits first.
pub(super) fn unpack(row: &[u8], bits: u8) -> impl Iterator<Item = u8> + '_ {
    let mask = if bits >= 8 { 0xff } else { (1u8 << bits) - 1 };
    let step = usize::from(bits.clamp(1, 8));
    row.iter().flat_map(move |&byte| {
        (0..8u8).step_by(step).map(move |at| (byte >> (8 - step_u8(step) - at)) & mask)
    })
}

fn step_u8(step: usize) -> u8 {
    u8::try_from(step).unwrap_or(8)
}

/// Appends the first three of every `samples` bytes.
pub(super) fn push_colours(out: &mut Vec<u8>, row: &[u8], samples: usize) {
    if samples == 3 {
        out.extend_from_slice(row);
        return;
    }
    for pixel in row.chunks_exact(samples) {
        out.extend_from_slice(pixel.first_chunk::<3>().unwrap_or(&[0; 3]));
    }
}

/// Appends the first of every `samples` bytes three times.
pub(super) fn push_greys(out: &mut Vec<u8>, row: &[u8], samples: usize) {
    for &grey in row.iter().step_by(samples) {
        out.extend([grey; 3]);
    }
}

/// Pillow's CMYK to RGB: the rounded product of the two complements.
pub(super) fn cmyk([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    [c, m, y].map(|ink| {
        let t = u32::from(255 - ink) * u32::from(255 - k) + 128;
        // At most 255 by the rule of the rounded division by 255.
        u8::try_from(((t >> 8) + t) >> 8).unwrap_or(255)
    })
}

/// A colour without the alpha that it was multiplied with; as it is where alpha is 0.
pub(super) fn divide(value: u8, alpha: u8) -> u8 {
    match alpha {
        0 | 255 => value,
        _ => u8::try_from(u16::from(value) * 255 / u16::from(alpha)).unwrap_or(255),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacks_high_bits_first() {
        assert_eq!(unpack(&[0b1010_0001], 1).collect::<Vec<_>>(), [1, 0, 1, 0, 0, 0, 0, 1]);
        assert_eq!(unpack(&[0b1110_0100], 2).collect::<Vec<_>>(), [3, 2, 1, 0]);
        assert_eq!(unpack(&[0x4f], 4).collect::<Vec<_>>(), [4, 15]);
        assert_eq!(unpack(&[7, 200], 8).collect::<Vec<_>>(), [7, 200]);
    }

    #[test]
    fn palettes_end_in_black_or_grey() {
        let palette = Palette::new_or_grey([[0, 0, 0], [1, 2, 3]].into_iter());
        assert_eq!([1, 2, 255].map(|i| palette.colour(i)), [[1, 2, 3], [0; 3], [0; 3]]);
        let palette = Palette::new_or_grey([[0; 3], [1; 3]].into_iter());
        assert_eq!([1, 2, 255].map(|i| palette.colour(i)), [[1; 3], [2; 3], [255; 3]]);
        assert_eq!([0, 1, 3].map(|i| Palette::grey(2).inverted(2).colour(i)[0]), [255, 170, 0]);
        assert_eq!([0, 3, 15].map(|i| Palette::grey(4).colour(i)[0]), [0, 51, 255]);
        assert_eq!(Palette::grey(8).colour(200), [200; 3]);
    }

    #[test]
    fn inks_to_light() {
        assert_eq!(cmyk([0, 0, 0, 0]), [255; 3]);
        assert_eq!(cmyk([255, 0, 128, 0]), [0, 255, 127]);
        assert_eq!(cmyk([10, 20, 30, 255]), [0; 3]);
    }
}
