use crate::frame::{Block, Frame};
use crate::progressive::{Accuracy, SMOOTHED};

/// Positions in natural order of DC and the first 9 coefficients.
const POSITIONS: [usize; SMOOTHED] = [0, 1, 8, 16, 9, 2, 3, 10, 17, 24];

/// Weights of the 5 x 5 surrounding DC values, row by row, of one estimated coefficient, times 256.
type Weights = [[i32; 5]; 5];

/// Where only DC is known: a Gaussian-like kernel for each of the coefficients at [`POSITIONS`].
#[rustfmt::skip]
static FROM_DC_ALONE: [Weights; SMOOTHED] = [
    [[-2, -6, -8, -6, -2], [-6, 6, 42, 6, -6], [-8, 42, 152, 42, -8], [-6, 6, 42, 6, -6], [-2, -6, -8, -6, -2]],
    [[-1, -1, 0, 1, 1], [-3, 13, 0, -13, 3], [-3, 38, 0, -38, 3], [-3, 13, 0, -13, 3], [-1, -1, 0, 1, 1]],
    [[-1, -3, -3, -3, -1], [-1, 13, 38, 13, -1], [0, 0, 0, 0, 0], [1, -13, -38, -13, 1], [1, 3, 3, 3, 1]],
    [[0, 0, 1, 0, 0], [0, 2, 7, 2, 0], [0, -5, -14, -5, 0], [0, 2, 7, 2, 0], [0, 0, 1, 0, 0]],
    [[-1, 0, 0, 0, 1], [0, 9, 0, -9, 0], [0, 0, 0, 0, 0], [0, -9, 0, 9, 0], [1, 0, 0, 0, -1]],
    [[0, 0, 0, 0, 0], [0, 2, -5, 2, 0], [1, 7, -14, 7, 1], [0, 2, -5, 2, 0], [0, 0, 0, 0, 0]],
    [[0, 0, 0, 0, 0], [0, 1, 0, -1, 0], [0, 2, 0, -2, 0], [0, 1, 0, -1, 0], [0, 0, 0, 0, 0]],
    [[0, 0, 0, 0, 0], [0, 1, -3, 1, 0], [0, 0, 0, 0, 0], [0, -1, 3, -1, 0], [0, 0, 0, 0, 0]],
    [[0, 0, 0, 0, 0], [0, 1, 0, -1, 0], [0, -3, 0, 3, 0], [0, 1, 0, -1, 0], [0, 0, 0, 0, 0]],
    [[0, 0, 0, 0, 0], [0, 1, 2, 1, 0], [0, 0, 0, 0, 0], [0, -1, -2, -1, 0], [0, 0, 0, 0, 0]],
];

/// Where AC coefficients are known in part: the first five of them, after the standard's annex K.8.
#[rustfmt::skip]
static FROM_DC_BESIDE_AC: [Weights; 5] = [
    [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [-7, 50, 0, -50, 7], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
    [[0, 0, -7, 0, 0], [0, 0, 50, 0, 0], [0, 0, 0, 0, 0], [0, 0, -50, 0, 0], [0, 0, 7, 0, 0]],
    [[0, 0, -1, 0, 0], [0, 0, 13, 0, 0], [0, 0, -24, 0, 0], [0, 0, 13, 0, 0], [0, 0, -1, 0, 0]],
    [[0, -1, 0, 1, 0], [-1, 10, 0, -10, 1], [0, 0, 0, 0, 0], [1, -10, 0, 10, -1], [0, 1, 0, -1, 0]],
    [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [-1, 13, -24, 13, -1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
];

/// Estimates missing low frequencies of a progressive file from the neighbours' DC values.
///
/// A file whose later scans are missing would show blocks; libjpeg-turbo's defaults smooth it like this.
pub(crate) struct Smoothing<'a> {
    frame: &'a Frame,
    accuracy: &'a [Accuracy],
    /// Last MCU row that the last scan reached; the rows behind it are as accurate as before that scan.
    last_good_row: usize,
    is_only_scan: bool,
}

impl<'a> Smoothing<'a> {
    /// None where all coefficients are known, or too little is.
    pub fn new(
        frame: &'a Frame,
        accuracy: &'a [Accuracy],
        last_good_row: usize,
        is_only_scan: bool,
    ) -> Option<Self> {
        let is_possible = frame.components.iter().zip(accuracy).all(|(component, accuracy)| {
            let quant = component.quant.as_ref();
            accuracy.now[0] >= 0 && quant.is_some_and(|quant| POSITIONS.iter().all(|&p| quant[p] != 0))
        });
        let is_useful = accuracy.iter().any(|accuracy| accuracy.now[1..].iter().any(|&bit| bit != 0));
        (is_possible && is_useful).then_some(Self { frame, accuracy, last_good_row, is_only_scan })
    }

    /// The blocks of MCU row `mcu_row` of component `index` with the estimates put in.
    ///
    /// `coefs`: the blocks of the whole component.
    pub fn smooth_row(&self, index: usize, coefs: &[Block], mcu_row: usize) -> Vec<Block> {
        let component = &self.frame.components[index];
        let Some(quant) = component.quant.as_ref() else {
            return Vec::new();
        };
        let accuracy = &self.accuracy[index];
        let bits = match (mcu_row > self.last_good_row, self.is_only_scan) {
            (false, _) => accuracy.now,
            (true, false) => accuracy.before,
            (true, true) => [-1; SMOOTHED],
        };
        let is_dc_alone = bits[1..].iter().all(|&bit| bit == -1);
        let is_last = mcu_row + 1 == self.frame.mcu_rows;
        let rows = match component.block_rows % component.v {
            rest if is_last && rest > 0 => rest,
            _ => component.v,
        };
        let first = mcu_row * component.v;
        let mut out = coefs[first * component.stride..(first + component.v) * component.stride].to_vec();
        for row in 0..rows {
            // libjpeg counts with the rows of this MCU row, fewer in the last one, to find the image's edges.
            let place = mcu_row * rows + row;
            let count = rows * self.frame.mcu_rows;
            let here = first + row;
            let above = here - usize::from(place > 0);
            let above2 = if place > 1 { here - 2 } else { above };
            let below = here + usize::from(place + 1 < count);
            let below2 = if place + 2 < count { here + 2 } else { below };
            let lines = [above2, above, here, below, below2].map(|r| &coefs[r * component.stride..]);
            for column in 0..component.block_columns {
                let last = component.block_columns - 1;
                // Left of the image its first column is repeated, right of it the last one.
                let dc: Weights = std::array::from_fn(|r| {
                    std::array::from_fn(|c| i32::from(lines[r][(column + c).clamp(2, last + 2) - 2][0]))
                });
                let block = &mut out[row * component.stride + column];
                estimate(block, &dc, quant, bits, is_dc_alone);
            }
        }
        out
    }
}

/// Sets the coefficients of `block` that are 0 and not known to be, from the DC values around it.
fn estimate(block: &mut Block, dc: &Weights, quant: &[u16; 64], bits: [i8; SMOOTHED], is_dc_alone: bool) {
    let predict = |weights: &Weights, position: usize, limit_bit: i8| {
        let sum: i32 = weights.iter().flatten().zip(dc.iter().flatten()).map(|(w, v)| w * v).sum();
        let scaled = i64::from(quant[0]) * i64::from(sum);
        let step = i64::from(quant[position]);
        let mut size = ((step << 7) + scaled.abs()) / (step << 8);
        if limit_bit > 0 {
            size = size.min((1 << limit_bit) - 1);
        }
        (if scaled < 0 { -size } else { size }) as i16
    };
    let tables = if is_dc_alone { &FROM_DC_ALONE[1..] } else { &FROM_DC_BESIDE_AC };
    for ((weights, &position), &bit) in tables.iter().zip(&POSITIONS[1..]).zip(&bits[1..]) {
        if bit != 0 && block[position] == 0 {
            block[position] = predict(weights, position, bit);
        }
    }
    if is_dc_alone {
        block[0] = predict(&FROM_DC_ALONE[0], 0, 0);
    }
}
