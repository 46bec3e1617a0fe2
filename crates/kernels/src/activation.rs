//! Activations and the elementary functions behind them, on 16 lanes.

use crate::simd::{LANES, Simd};

/// What follows a product or a convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x
    #[default]
    None,
    /// x Φ(x) with the exact normal distribution (erf), as MobileCLIP uses it. Largest error 2.93e-7 for |x| < 5.5 (measured on
    /// every 211th f32), 1.1e-7 or half a unit in the last place beyond.
    Gelu,
    /// x sigmoid(1.702 x), of OpenAI's models.
    QuickGelu,
    /// max(x, 0)
    Relu,
    /// 1 / (1 + e^-x)
    Sigmoid,
}

/// A function on lanes, as a type: loops are compiled for each, so constants stay in registers.
pub(crate) trait Function: Copy {
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V;
    /// The derivative at x.
    fn slope<S: Simd>(self, s: S, x: S::V) -> S::V;
}

#[derive(Clone, Copy)]
pub(crate) struct Identity;
#[derive(Clone, Copy)]
pub(crate) struct Gelu;
#[derive(Clone, Copy)]
pub(crate) struct QuickGelu;
#[derive(Clone, Copy)]
pub(crate) struct Relu;
#[derive(Clone, Copy)]
pub(crate) struct Sigmoid;

/// Evaluates `$body` with `$f` bound to the activation's [`Function`].
macro_rules! with_activation {
    ($activation:expr, $f:ident => $body:expr) => {
        match $activation {
            $crate::activation::Activation::None => {
                let $f = $crate::activation::Identity;
                $body
            }
            $crate::activation::Activation::Gelu => {
                let $f = $crate::activation::Gelu;
                $body
            }
            $crate::activation::Activation::QuickGelu => {
                let $f = $crate::activation::QuickGelu;
                $body
            }
            $crate::activation::Activation::Relu => {
                let $f = $crate::activation::Relu;
                $body
            }
            $crate::activation::Activation::Sigmoid => {
                let $f = $crate::activation::Sigmoid;
                $body
            }
        }
    };
}
pub(crate) use with_activation;

impl Function for Identity {
    #[inline(always)]
    fn apply<S: Simd>(self, _: S, x: S::V) -> S::V {
        x
    }
    #[inline(always)]
    fn slope<S: Simd>(self, s: S, _: S::V) -> S::V {
        s.splat(1.0)
    }
}

impl Function for Relu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.max(s.zero(), x) // this order keeps NaN
    }
    // 0 at 0, as PyTorch has it.
    #[inline(always)]
    fn slope<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.positive(x)
    }
}

/// Adding it to a small number rounds that to an integer, which then stands in the low bits.
const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23
/// Width of the segments of the GELU table: the middles 0, SEGMENT, … 15 SEGMENT, the last one reaching to 5.5.
const SEGMENT: f32 = 5.5 / 15.5;

#[repr(align(64))]
struct Table([[f32; LANES]; 5]);

/// d(a) = a erfc(a / sqrt 2) / 2 as a polynomial of degree 4 in the distance from the middle of each of 16 segments:
/// coefficient k of segment s is `[k][s]`. Interpolated at the Chebyshev nodes of the segment; a test makes them anew.
#[rustfmt::skip]
static GELU: Table = Table([
    [
        0.0, 0.128_222_81, 0.169_578_91, 0.152_808_6,
        0.110_564_62, 0.067_446_984, 0.035_396_86, 0.016_140_556,
        0.006_429_160_5, 0.002_244_04, 0.000_687_674_3, 0.000_185_245_37,
        4.390_161_5e-5, 9.158_538e-6, 1.682_501_4e-6, 2.722_646e-7,
    ],
    [
        0.5, 0.228_437_95, 0.018_866_12, -0.097_434_52,
        -0.128_898_72, -0.108_671_07, -0.071_443_53, -0.038_826_823,
        -0.017_881_976, -0.007_069_488_5, -0.002_417_08, -0.000_718_076_9,
        -0.000_185_951_43, -4.206_682e-5, -8.327_075e-6, -1.444_054_2e-6,
    ],
    [
        -0.398_939_2, -0.351_016, -0.232_034_22, -0.098_116_16,
        0.001_059_515_6, 0.047_445_957, 0.052_384_19, 0.038_042_42,
        0.021_498_336, 0.009_977_043, 0.003_896_766_6, 0.001_298_129_3,
        0.000_371_865_7, 9.209_701e-5, 1.979_366_6e-5, 3.701_816_5e-6,
    ],
    [
        -1.828_398_5e-15, 0.085_104_495, 0.127_340_23, 0.114_605_6,
        0.068_435_41, 0.021_156_028, -0.007_494_203_3, -0.016_213_59,
        -0.013_588_484, -0.008_054_536, -0.003_771_188_4, -0.001_454_524_6,
        -0.000_471_924_87, -0.000_130_383_43, -3.091_404_5e-5, -6.324_016_3e-6,
    ],
    [
        0.066_099_42, 0.048_682_705, 0.009_472_463, -0.024_724_545,
        -0.036_466_155, -0.027_923_808, -0.012_431_008, -0.000_930_996_96,
        0.003_657_025_5, 0.003_700_300_8, 0.002_284_398_5, 0.001_064_426_5,
        0.000_399_476_27, 0.000_124_377_42, 3.265_660_8e-5, 7.304_643e-6,
    ],
]);

/// d'(a) in the same way. Largest error 6.6e-7.
#[rustfmt::skip]
static GELU_SLOPE: Table = Table([
    [
        0.5, 0.228_432_28, 0.018_858_936, -0.097_438_75,
        -0.128_898_68, -0.108_668_54, -0.071_440_965, -0.038_825_445,
        -0.017_881_675, -0.007_069_682_2, -0.002_417_335_3, -0.000_718_240_04,
        -0.000_186_026_37, -4.209_395_8e-5, -8.335_125e-6, -1.446_050_3e-6,
    ],
    [
        -0.797_866_17, -0.702_024_46, -0.464_070_4, -0.196_240_3,
        0.002_112_050_5, 0.094_889_74, 0.104_769_945, 0.076_087_25,
        0.042_998_17, 0.019_954_514, 0.007_793_431, 0.002_596_063_8,
        0.000_743_603_86, 0.000_184_136_9, 3.956_753_8e-5, 7.398_076_4e-6,
    ],
    [
        -5.759_282e-16, 0.257_471_65, 0.384_755_9, 0.345_428_62,
        0.205_292_87, 0.062_508_315, -0.023_458_416, -0.049_167_607,
        -0.040_880_825, -0.024_090_048, -0.011_216_379, -0.004_301_363_6,
        -0.001_387_169, -0.000_380_783_05, -8.966_422e-5, -1.820_804_2e-5,
    ],
    [
        0.263_618_68, 0.194_249_44, 0.038_014_837, -0.098_390_35,
        -0.145_421_24, -0.111_557_16, -0.049_823_653, -0.003_877_603_2,
        0.014_532_926, 0.014_773_916, 0.009_144_071_5, 0.004_270_090_7,
        0.001_606_009_8, 0.000_501_141_36, 0.000_131_884_87, 2.957_195_8e-5,
    ],
    [
        4.276_774e-15, -0.091_343_73, -0.115_781_44, -0.068_252_83,
        0.000_533_755_5, 0.040_612_195, 0.041_313_816, 0.022_318_71,
        0.004_897_263, -0.003_108_733_6, -0.004_114_402_5, -0.002_635_335_8,
        -0.001_212_382_8, -0.000_439_595_52, -0.000_130_571_98, -3.242_657e-5,
    ],
]);

/// The table's polynomial at min(|x|, the table's end).
#[inline(always)]
fn interpolate<S: Simd>(s: S, table: &'static Table, x: S::V) -> S::V {
    let a = s.min(s.splat(15.49 * SEGMENT), s.abs(x)); // this order keeps NaN
    let t = s.fma(a, s.splat(1.0 / SEGMENT), s.splat(MAGIC));
    let u = s.fnma(s.sub(t, s.splat(MAGIC)), s.splat(SEGMENT), a);
    let c = &table.0;
    let mut p = s.lookup(&c[4], t);
    p = s.fma(p, u, s.lookup(&c[3], t));
    p = s.fma(p, u, s.lookup(&c[2], t));
    p = s.fma(p, u, s.lookup(&c[1], t));
    s.fma(p, u, s.lookup(&c[0], t))
}

// gelu(x) = max(x, 0) - d(|x|): d is even, small and decays, so 16 short polynomials do. 17 operations, no division.
impl Function for Gelu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.sub(s.max(s.zero(), x), interpolate(s, &GELU, x))
    }
    // 1 - d'(x) for x > 0, d'(-x) else.
    #[inline(always)]
    fn slope<S: Simd>(self, s: S, x: S::V) -> S::V {
        let above = s.positive(x);
        let sign = s.fnma(s.splat(2.0), above, s.splat(1.0));
        s.fma(interpolate(s, &GELU_SLOPE, x), sign, above)
    }
}

/// e^x to 2 units in the last place for -87 <= x <= 88; beyond, the values at these ends. NaN stays.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let x = s.min(s.splat(88.0), s.max(s.splat(-87.0), x));
    let t = s.fma(x, s.splat(std::f32::consts::LOG2_E), s.splat(MAGIC));
    let n = s.sub(t, s.splat(MAGIC));
    // x - n ln 2 in two parts, the first with few bits so that its product is exact (Cody and Waite).
    let r = s.fnma(n, s.splat(0.693_359_4), x);
    let r = s.fnma(n, s.splat(-2.121_944_4e-4), r);
    // e^r on [-ln 2 / 2, ln 2 / 2]: 1 + r + r^2 q(r), q interpolated at its Chebyshev nodes; relative error 1.1e-8.
    let mut p = s.splat(1.392_621_3e-3);
    for c in [8.363_203e-3, 4.166_655_6e-2, 1.666_657_6e-1, 0.5, 1.0, 1.0] {
        p = s.fma(p, r, s.splat(c));
    }
    s.add_exponent(p, t)
}

impl Function for Sigmoid {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.div(s.splat(1.0), s.add(s.splat(1.0), exp(s, s.sub(s.zero(), x))))
    }
    #[inline(always)]
    fn slope<S: Simd>(self, s: S, x: S::V) -> S::V {
        let y = self.apply(s, x);
        s.fnma(y, y, y)
    }
}

impl Function for QuickGelu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.div(x, s.add(s.splat(1.0), exp(s, s.mul(x, s.splat(-1.702)))))
    }
    // With g = sigmoid(1.702 x): g + 1.702 x (g - g^2).
    #[inline(always)]
    fn slope<S: Simd>(self, s: S, x: S::V) -> S::V {
        let scaled = s.mul(x, s.splat(1.702));
        let gate = Sigmoid.apply(s, scaled);
        s.fma(scaled, s.fnma(gate, gate, gate), gate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// erfc by its series and its continued fraction.
    fn erfc(x: f64) -> f64 {
        if x < 2.0 {
            let (mut term, mut sum) = (x, x);
            for n in 1..80 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            return 1.0 - sum * 2.0 / std::f64::consts::PI.sqrt();
        }
        let fraction = (1..200).rev().fold(0.0, |f, n| f64::from(n) / 2.0 / (x + f));
        (-x * x).exp() / std::f64::consts::PI.sqrt() / (x + fraction)
    }

    /// Interpolates at the Chebyshev nodes of each segment and compares the coefficients.
    fn check(table: &Table, d: impl Fn(f64) -> f64) {
        let width = f64::from(SEGMENT);
        let nodes: [f64; 5] =
            std::array::from_fn(|i| (std::f64::consts::PI * (i as f64 + 0.5) / 5.0).cos() * width / 2.0);
        for segment in 0..LANES {
            // Newton's divided differences, then multiplied out from the innermost bracket.
            let mut differences = nodes.map(|u| d(segment as f64 * width + u));
            for order in 1..5 {
                for i in (order..5).rev() {
                    differences[i] = (differences[i] - differences[i - 1]) / (nodes[i] - nodes[i - order]);
                }
            }
            let mut coefficients = [0.0; 5];
            for i in (0..5).rev() {
                for k in (0..5).rev() {
                    let lower = if k > 0 { coefficients[k - 1] } else { differences[i] };
                    coefficients[k] = lower - coefficients[k] * nodes[i];
                }
            }
            for (k, exact) in coefficients.into_iter().enumerate() {
                let error = (f64::from(table.0[k][segment]) - exact).abs();
                // Half a unit of f32, and what f64 loses in the differences.
                let bound = 6e-8 * exact.abs() + 1e-11;
                assert!(error <= bound, "segment {segment}, coefficient {k}: {exact}, off by {error:e}");
            }
        }
    }

    #[test]
    fn the_tables_interpolate_at_chebyshev_nodes() {
        let tail = |a: f64| 0.5 * erfc(a / 2f64.sqrt());
        let density = |a: f64| (-a * a / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        check(&GELU, |a| a * tail(a));
        check(&GELU_SLOPE, |a| tail(a) - a * density(a));
    }
}
