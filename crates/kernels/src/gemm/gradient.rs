//! The gradient of a linear layer's weights: `dW[n][k] = sum over pixels of dy[pixel][n] x[pixel][k]`.
//!
//! A register tile is some lanes of x, broadcast, against some vectors of dy; both are read along the pixels, some of
//! which stay in the first cache while all tiles use them. Each element is the sum of one chain of multiply-adds over
//! rising pixels: bits do not depend on how the tasks are divided.

use crate::isa::{Isa, Kernel};
use crate::map::MapRef;
use crate::simd::{LANES, Simd};

/// Pixels that all tiles use before the next ones: 16 KB of x's and of dy's vectors.
const PIXELS: usize = 128;

/// How the gradient of weights `[n][k]` is divided into tasks, and where it lies meanwhile.
///
/// ```
/// use mobileclip_kernels::{Isa, Map, MapRef, WeightGradient};
/// // 2 outputs of 3 inputs, 2 pixels.
/// let gradient = WeightGradient::new(Isa::detect(), 2, 3);
/// let (from, to) = (Map::tokens(3, 2), Map::tokens(2, 2));
/// let (mut x, mut dy) = (vec![0.0; from.len()], vec![0.0; to.len()]);
/// x[..3].copy_from_slice(&[1.0, 2.0, 3.0]);
/// dy[..2].copy_from_slice(&[1.0, 10.0]);
/// let mut packed = vec![0.0; gradient.packed_len()];
/// for (task, part) in packed.chunks_mut(gradient.task_len()).enumerate() {
///     gradient.run(task, MapRef::new(from, &x), MapRef::new(to, &dy), part);
/// }
/// let mut dw = vec![0.0; 6];
/// gradient.unpack(&packed, &mut dw);
/// assert_eq!(dw, [1.0, 2.0, 3.0, 10.0, 20.0, 30.0]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct WeightGradient {
    isa: Isa,
    n: usize,
    k: usize,
    /// Blocks of outputs of a task.
    width: usize,
    /// Blocks of inputs of a task.
    k_blocks: usize,
}

impl WeightGradient {
    /// For `n` outputs of `k` inputs.
    pub fn new(isa: Isa, n: usize, k: usize) -> WeightGradient {
        let width = isa.shape().blocks;
        let panels = n.div_ceil(LANES).div_ceil(width);
        let mut k_blocks = k.div_ceil(LANES);
        // Enough tasks for some threads; more would read dy more often.
        while k_blocks.is_multiple_of(2) && panels * (k.div_ceil(LANES) / k_blocks) < 16 {
            k_blocks /= 2;
        }
        WeightGradient { isa, n, k, width, k_blocks }
    }

    fn tasks_along_k(&self) -> usize {
        self.k.div_ceil(LANES).checked_div(self.k_blocks).unwrap_or(0)
    }

    /// Tasks, in any order and on any thread.
    pub fn tasks(&self) -> usize {
        self.n.div_ceil(LANES).div_ceil(self.width) * self.tasks_along_k()
    }

    /// f32 of one task's result: `[k][outputs]` of its part.
    pub fn task_len(&self) -> usize {
        self.k_blocks * LANES * self.width * LANES
    }

    /// f32 of all results, task by task.
    pub fn packed_len(&self) -> usize {
        self.tasks() * self.task_len()
    }

    /// Adds one task's sum over all pixels of the views to `part`.
    ///
    /// * `x`: blocks ceil(k / 16); `dy`: blocks ceil(n / 16); the same pixels.
    ///
    /// # Panics
    /// If shapes do not fit each other.
    pub fn run(&self, task: usize, x: MapRef<'_>, dy: MapRef<'_>, part: &mut [f32]) {
        assert!(task < self.tasks(), "task {task} of {}", self.tasks());
        assert_eq!(x.blocks(), self.k.div_ceil(LANES), "blocks of the input");
        assert_eq!(dy.blocks(), self.n.div_ceil(LANES), "blocks of the output's gradient");
        assert_eq!(x.pixels(), dy.pixels(), "pixels");
        assert_eq!(part.len(), self.task_len(), "length of the part");
        let (panel, k_part) = (task / self.tasks_along_k(), task % self.tasks_along_k());
        let first = panel * self.width;
        let width = self.width.min(dy.blocks() - first);
        let mut at = 0;
        while at < x.pixels() {
            let pixels = x.run_length(at).min(dy.run_length(at)).min(PIXELS);
            let x_stride = x.map().block_stride();
            let job = Job {
                x: x.plane().wrapping_add(k_part * self.k_blocks * x_stride + x.offset_of(at)),
                x_stride,
                k_blocks: self.k_blocks,
                dy: dy.plane().wrapping_add(first * dy.map().block_stride() + dy.offset_of(at)),
                dy_stride: dy.map().block_stride(),
                pixels,
                out: part.as_mut_ptr(),
                row: self.width * LANES,
            };
            // SAFETY: `pixels` pixels are in one piece in both views from `at` on; the task's blocks of x and dy exist, and
            // `part` holds 16 `k_blocks` rows of `row` f32, at least 16 `width` (all asserted above).
            unsafe { job.run(self.isa, width) };
            at += pixels;
        }
    }

    /// Adds the packed sums to weights `[n][k]`.
    ///
    /// # Panics
    /// If a length is not what n and k say.
    pub fn unpack(&self, packed: &[f32], weights: &mut [f32]) {
        self.unpack_with(packed, weights, self.k, 1);
    }

    /// Adds the packed sums to weights `[k][n]`.
    ///
    /// # Panics
    /// If a length is not what n and k say.
    pub fn unpack_transposed(&self, packed: &[f32], weights: &mut [f32]) {
        self.unpack_with(packed, weights, 1, self.n);
    }

    fn unpack_with(&self, packed: &[f32], weights: &mut [f32], n_step: usize, k_step: usize) {
        assert_eq!(packed.len(), self.packed_len(), "packed length");
        assert_eq!(weights.len(), self.n * self.k, "weights of {} x {}", self.n, self.k);
        let columns = self.width * LANES;
        for (task, part) in packed.chunks_exact(self.task_len().max(1)).enumerate() {
            let n0 = task / self.tasks_along_k() * columns;
            let k0 = task % self.tasks_along_k() * self.k_blocks * LANES;
            let (n1, k1) = (self.n.min(n0 + columns), self.k.min(k0 + self.k_blocks * LANES));
            for n in n0..n1 {
                for k in k0..k1 {
                    weights[n * n_step + k * k_step] += part[(k - k0) * columns + n - n0];
                }
            }
        }
    }
}

/// `out[k][n] += sum over pixels of x[pixel][k] dy[pixel][n]` for `k_blocks` blocks of x and some blocks of dy.
#[derive(Clone, Copy)]
pub(crate) struct Job {
    pub x: *const f32,
    pub x_stride: usize,
    pub k_blocks: usize,
    pub dy: *const f32,
    pub dy_stride: usize,
    pub pixels: usize,
    pub out: *mut f32,
    /// f32 from one k of `out` to the next.
    pub row: usize,
}

impl Job {
    /// # Safety
    /// `x` and `dy` hold `pixels` pixels of `k_blocks` and of `width` blocks, `out` 16 `k_blocks` rows of 16 `width` f32.
    pub(crate) unsafe fn run(self, isa: Isa, width: usize) {
        // SAFETY: by the caller.
        unsafe {
            match (isa.shape().rows, width) {
                (8, 2) => isa.run(Sum::<8, 2>(self)),
                (8, _) => isa.run(Sum::<8, 1>(self)),
                (6, _) => isa.run(Sum::<4, 1>(self)),
                _ => isa.run(Sum::<2, 1>(self)),
            }
        }
    }
}

/// In tiles of R lanes of x and W vectors of dy.
pub(crate) struct Sum<const R: usize, const W: usize>(pub Job);

impl<const R: usize, const W: usize> Kernel for Sum<R, W> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        if const { R > S::SHAPE.rows || W > S::SHAPE.blocks } {
            return; // never asked for, so not worth compiling
        }
        let job = self.0;
        // SAFETY: by the promise of `Job::run`.
        unsafe {
            for tile in 0..job.k_blocks * (LANES / R) {
                let lane = tile * R;
                let out = job.out.add(lane * job.row);
                let mut acc = [[s.zero(); W]; R];
                for r in 0..R {
                    for w in 0..W {
                        acc[r][w] = s.load(out.add(r * job.row + w * LANES));
                    }
                }
                let mut x = job.x.add(lane / LANES * job.x_stride + lane % LANES);
                let mut dy = job.dy;
                for _ in 0..job.pixels {
                    let mut b = [s.zero(); W];
                    for w in 0..W {
                        b[w] = s.load(dy.wrapping_add(w * job.dy_stride));
                    }
                    for r in 0..R {
                        let v = s.splat(*x.add(r));
                        for w in 0..W {
                            acc[r][w] = s.fma(v, b[w], acc[r][w]);
                        }
                    }
                    x = x.wrapping_add(LANES);
                    dy = dy.wrapping_add(LANES);
                }
                for r in 0..R {
                    for w in 0..W {
                        s.store(out.add(r * job.row + w * LANES), acc[r][w]);
                    }
                }
            }
        }
    }
}
