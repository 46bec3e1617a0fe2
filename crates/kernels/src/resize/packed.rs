//! Weights split into the short integers that the multiply-add instructions take.

use super::Taps;

/// Pixels behind a group that the 16-byte load of 4 RGB pixels touches, rounded up.
const PAIRS_OVERREAD: usize = 2;

/// Weights as `high * 2^15 + low` for `pmaddwd`: `low` in 0..2^15, `high` signed.
#[derive(Clone, Debug)]
pub(super) struct Pairs {
    pub(super) starts: Vec<usize>,
    /// Groups of 4 taps in every output.
    pub(super) groups: usize,
    /// `[output][group][low of 4 taps, high of 4 taps]`
    pub(super) weights: Vec<[i16; 8]>,
}

impl Pairs {
    pub(super) fn new(taps: &Taps) -> Option<Pairs> {
        let groups = taps.longest().div_ceil(4);
        let mut starts = Vec::with_capacity(taps.len());
        let mut packed = Vec::with_capacity(taps.len() * groups);
        for i in 0..taps.len() {
            let (start, weights) = taps.output(i);
            starts.push(start);
            for group in 0..groups {
                let mut pair = [0; 8];
                for (k, &w) in weights.iter().skip(group * 4).take(4).enumerate() {
                    pair[k] = i16::try_from(w & 0x7fff).ok()?;
                    pair[k + 4] = i16::try_from(w >> 15).ok()?;
                }
                packed.push(pair);
            }
        }
        Some(Pairs { starts, groups, weights: packed })
    }

    /// Pixels from an output's start that the kernel may touch.
    pub(super) fn readable(&self) -> usize {
        self.groups * 4 + PAIRS_OVERREAD
    }
}

/// Weights as `d2 * 2^16 + d1 * 2^8 + d0` with signed digits, for the four-byte dot products of AVX-512 VNNI.
#[derive(Clone, Debug)]
pub(super) struct Digits {
    pub(super) starts: Vec<usize>,
    /// Groups of 16 taps in every output.
    pub(super) groups: usize,
    /// `[output][group][digit][tap]`; the fourth digit only fills the vector.
    pub(super) weights: Vec<[[i8; 16]; 4]>,
}

impl Digits {
    pub(super) fn new(taps: &Taps) -> Option<Digits> {
        let groups = taps.longest().div_ceil(16);
        let mut starts = Vec::with_capacity(taps.len());
        let mut packed = Vec::with_capacity(taps.len() * groups);
        for i in 0..taps.len() {
            let (start, weights) = taps.output(i);
            starts.push(start);
            for group in 0..groups {
                let mut digits = [[0; 16]; 4];
                for (k, &w) in weights.iter().skip(group * 16).take(16).enumerate() {
                    // The low byte read as signed; what it took too little or too much goes into the next digit.
                    let d0 = w as i8;
                    let rest = (i64::from(w) - i64::from(d0)) >> 8;
                    let d1 = rest as i8;
                    digits[0][k] = d0;
                    digits[1][k] = d1;
                    digits[2][k] = i8::try_from((rest - i64::from(d1)) >> 8).ok()?;
                }
                packed.push(digits);
            }
        }
        Some(Digits { starts, groups, weights: packed })
    }

    /// Pixels from an output's start that the kernel may touch: its loads are masked, so nothing behind the groups.
    pub(super) fn readable(&self) -> usize {
        self.groups * 16
    }
}
