//! Activations and the elementary functions behind them, on 16 lanes.

use crate::simd::{LANES, Simd};

/// What follows a product or a convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x
    #[default]
    None,
    /// x Φ(x) with the exact normal distribution (erf), as MobileCLIP uses it. Largest absolute error 3.3e-7.
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
}

impl Function for Relu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.max(s.zero(), x) // this order keeps NaN
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
        0.000000000e+00, 1.282228082e-01, 1.695789099e-01, 1.528086066e-01,
        1.105646193e-01, 6.744698435e-02, 3.539685905e-02, 1.614055596e-02,
        6.429160479e-03, 2.244039904e-03, 6.876743282e-04, 1.852453715e-04,
        4.390161484e-05, 9.158537978e-06, 1.682501420e-06, 2.722646002e-07,
    ],
    [
        5.000000000e-01, 2.284379452e-01, 1.886611991e-02, -9.743452072e-02,
        -1.288987249e-01, -1.086710691e-01, -7.144352794e-02, -3.882682323e-02,
        -1.788197644e-02, -7.069488522e-03, -2.417080104e-03, -7.180768880e-04,
        -1.859514305e-04, -4.206681842e-05, -8.327075193e-06, -1.444054192e-06,
    ],
    [
        -3.989391923e-01, -3.510160148e-01, -2.320342213e-01, -9.811615944e-02,
        1.059515635e-03, 4.744595662e-02, 5.238419026e-02, 3.804241866e-02,
        2.149833553e-02, 9.977042675e-03, 3.896766575e-03, 1.298129326e-03,
        3.718656953e-04, 9.209701238e-05, 1.979366607e-05, 3.701816468e-06,
    ],
    [
        -1.828398544e-15, 8.510449529e-02, 1.273402274e-01, 1.146055982e-01,
        6.843540817e-02, 2.115602791e-02, -7.494203281e-03, -1.621359028e-02,
        -1.358848438e-02, -8.054535836e-03, -3.771188436e-03, -1.454524579e-03,
        -4.719248682e-04, -1.303834288e-04, -3.091404506e-05, -6.324016340e-06,
    ],
    [
        6.609942019e-02, 4.868270457e-02, 9.472463280e-03, -2.472454496e-02,
        -3.646615520e-02, -2.792380750e-02, -1.243100781e-02, -9.309969610e-04,
        3.657025518e-03, 3.700300818e-03, 2.284398535e-03, 1.064426498e-03,
        3.994762665e-04, 1.243774168e-04, 3.265660780e-05, 7.304643077e-06,
    ],
]);

// gelu(x) = max(x, 0) - d(|x|): d is even, small and decays, so 16 short polynomials do. 17 operations, no division.
impl Function for Gelu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        let a = s.min(s.splat(15.49 * SEGMENT), s.abs(x)); // this order keeps NaN
        let t = s.fma(a, s.splat(1.0 / SEGMENT), s.splat(MAGIC));
        let u = s.fnma(s.sub(t, s.splat(MAGIC)), s.splat(SEGMENT), a);
        let c = &GELU.0;
        let mut p = s.lookup(&c[4], t);
        p = s.fma(p, u, s.lookup(&c[3], t));
        p = s.fma(p, u, s.lookup(&c[2], t));
        p = s.fma(p, u, s.lookup(&c[1], t));
        p = s.fma(p, u, s.lookup(&c[0], t));
        s.sub(s.max(s.zero(), x), p)
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
}

impl Function for QuickGelu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.div(x, s.add(s.splat(1.0), exp(s, s.mul(x, s.splat(-1.702)))))
    }
}
