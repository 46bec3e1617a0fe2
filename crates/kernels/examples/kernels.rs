//! GFLOP/s of the kernels on the shapes of the real networks, beside the peak measured in the same run.
//!
//! `cargo run --release -p mobileclip-kernels --example kernels [filter] [isa]`
//!
//! One thread. Each line: best and median of 41 runs, in CPU time of the thread where the system tells (so that a busy
//! machine disturbs less). GFLOP are nominal (2 per multiply-add of the plain product) and percentages are of the peak in f32, so
//! that a Winograd level, bf16 and int8 exceed 100 %; what makes their operands is timed with them. Results are checked in the tests, on awkward shapes.

use mobileclip_kernels::*;

/// Seconds of CPU time of this thread.
#[cfg(target_os = "linux")]
fn now() -> f64 {
    #[repr(C)]
    struct Time {
        seconds: i64,
        nanoseconds: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Time) -> i32;
    }
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    let mut time = Time { seconds: 0, nanoseconds: 0 };
    // SAFETY: the C library is linked by std; `Time` is its timespec on 64-bit Linux.
    unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.seconds as f64 + time.nanoseconds as f64 * 1e-9
}

/// Seconds since the first call.
#[cfg(not(target_os = "linux"))]
fn now() -> f64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_secs_f64()
}

struct Bench {
    isa: Isa,
    filter: String,
}

impl Bench {
    /// Times `f` after `flop` and prints a line.
    fn line(&self, name: &str, flop: f64, mut f: impl FnMut()) {
        if !name.contains(&self.filter) {
            return;
        }
        f();
        let start = now();
        f();
        let repeat = (500e-6 / (now() - start).max(1e-9)).max(1.0) as usize;
        let mut times: Vec<f64> = (0..41)
            .map(|_| {
                let start = now();
                for _ in 0..repeat {
                    f();
                }
                (now() - start) / repeat as f64
            })
            .collect();
        times.sort_by(f64::total_cmp);
        // Beside each line, because clock rates drift.
        let peak = peak_gflops(self.isa);
        let (best, median) = (times[0], times[times.len() / 2]);
        println!(
            "{name:<44} {:>9.1} us  {:>6.1} GF/s  {:>5.1} %   median {:>5.1} %",
            best * 1e6,
            flop / best / 1e9,
            flop / best / 1e9 / peak * 100.0,
            flop / median / 1e9 / peak * 100.0
        );
    }

    fn gemm(&self, name: &str, pixels: usize, k: usize, n: usize, activation: Activation, residual: bool) {
        for kind in ["plain", "winograd", "bf16", "int8"] {
            let (isa, weights, bias) = (self.isa, ramp(n * k), ramp(n));
            let gemm = match kind {
                "winograd" => PackedGemm::pack_winograd(isa, n, k, &weights, Some(&bias)),
                "bf16" => PackedGemm::pack_as(Precision::Bf16, isa, n, k, &weights, Some(&bias)),
                "int8" => PackedGemm::pack_as(Precision::Int8, isa, n, k, &weights, Some(&bias)),
                _ => PackedGemm::pack(isa, n, k, &weights, Some(&bias)),
            };
            let (from, to) = (Map::tokens(k, pixels), Map::tokens(n, pixels));
            let (input, mut out) = (buffer(from), buffer(to));
            let x = MapRef::new(from, &input);
            let mut operand = Buffer::zeroed(gemm.operand_len(pixels));
            let name = format!(
                "gemm {name} {pixels}x{k}x{n} {activation:?}{} {kind}",
                if residual { " +res" } else { "" }
            );
            self.line(&name, 2.0 * (pixels * k * n) as f64, || {
                gemm.make_operand(x, 0..gemm.operand_chunks(pixels), &mut operand);
                let residual = if residual { Residual::InPlace } else { Residual::None };
                gemm.run(x, &operand, 0..gemm.panels(), activation, residual, MapMut::new(to, &mut out));
            });
        }
    }

    fn depthwise(&self, name: &str, shape: DepthwiseShape, size: usize, activation: Activation) {
        let [ky, kx] = shape.kernel;
        let depthwise = Depthwise::pack(self.isa, shape, &ramp(shape.channels * ky * kx), None);
        let inputs = shape.channels / shape.multiplier;
        let from = Map::new(inputs, size, size).with_border(shape.padding[0], shape.padding[1]);
        let [rows, columns] = shape.output(size, size);
        let to = Map::new(shape.channels, rows, columns);
        let (input, mut out) = (buffer(from), buffer(to));
        let flop = 2.0 * (shape.channels * rows * columns * ky * kx) as f64;
        self.line(&format!("depthwise {name} {activation:?}"), flop, || {
            let x = MapRef::new(from, &input);
            depthwise.run(x, 0..to.blocks, 0, activation, MapMut::new(to, &mut out));
        });
    }

    fn conv(&self, name: &str, shape: ConvShape, size: usize, activation: Activation) {
        let [ky, kx] = shape.kernel;
        let weights = ramp(shape.outputs * shape.inputs * ky * kx);
        let conv = PackedConv::pack_planar(self.isa, shape, &weights, None);
        let image = ramp(shape.inputs * size * size);
        let [rows, columns] = shape.output(size, size);
        let to = Map::new(shape.outputs, rows, columns).with_border(1, 1);
        let mut out = buffer(to);
        let mut scratch = Buffer::zeroed(conv.scratch_len(32));
        let flop = 2.0 * (rows * columns * weights.len()) as f64;
        self.line(&format!("conv {name} {activation:?}"), flop, || {
            let input = ConvInput::Planar { data: &image, height: size, width: size };
            conv.run(input, 0, activation, MapMut::new(to, &mut out), &mut scratch);
        });
    }

    fn attention(&self, name: &str, heads: usize, head_dim: usize, tokens: usize, is_causal: bool) {
        let a = Attention { heads, head_dim, scale: (head_dim as f32).powf(-0.5), is_causal };
        let (from, to) = (Map::tokens(3 * a.width(), tokens), Map::tokens(a.width(), tokens));
        let (input, mut out) = (buffer(from), buffer(to));
        let mut scratch = Buffer::zeroed(a.scratch_len(self.isa, tokens));
        let seen = if is_causal { tokens * (tokens + 1) / 2 } else { tokens * tokens };
        for precision in [Precision::F32, Precision::Bf16] {
            let name = format!("attention {name} {heads} heads of {head_dim} {precision}");
            self.line(&name, 4.0 * (a.width() * seen) as f64, || {
                let (x, y) = (MapRef::new(from, &input), MapMut::new(to, &mut out));
                a.run_as(precision, self.isa, x, 0..heads, y, &mut scratch);
            });
        }
    }

    /// Packing, as bytes of weights read: one operation for each.
    fn packing(&self) {
        let (n, k) = (2048, 512);
        let weights = ramp(n * k);
        for (name, pack) in [
            ("plain", PackedGemm::pack as fn(_, _, _, &[f32], _) -> _),
            ("winograd", PackedGemm::pack_winograd),
        ] {
            self.line(&format!("pack {k}x{n} {name}"), 4.0 * (n * k) as f64, || {
                std::hint::black_box(pack(self.isa, n, k, &weights, None));
            });
        }
    }

    /// Lines without FLOP count: the rate counts one operation for each number.
    fn bandwidth(&self) {
        let map = Map::new(512, 1, 77);
        let (input, mut out) = (buffer(map), buffer(map));
        let norm = LayerNorm::new(self.isa, 1e-5, &ramp(512), &ramp(512));
        let n = map.len() as f64;
        self.line("layernorm 77x512", n, || norm.run(MapRef::new(map, &input), MapMut::new(map, &mut out)));
        for activation in [Activation::Gelu, Activation::QuickGelu] {
            self.line(&format!("activation {activation:?}"), n, || {
                out.copy_from_slice(&input);
                activate(self.isa, activation, MapMut::new(map, &mut out));
            });
        }
    }
}

/// Numbers of both signs without a pattern that a processor could profit from.
fn ramp(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919) % 2003) as f32 / 20030.0 - 0.05).collect()
}

fn buffer(map: Map) -> Buffer {
    Buffer::from(&ramp(map.len())[..])
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = arguments.get(1).map(String::as_str);
    let filter = arguments.first().cloned().unwrap_or_default();
    let isa = Isa::available().into_iter().rfind(|isa| wanted.is_none_or(|w| isa.name() == w));
    let isa = isa.expect("this processor has that instruction set");
    let [single, bf16, int8] =
        [Precision::F32, Precision::Bf16, Precision::Int8].map(|p| peak_gflops_of(isa, p));
    println!("{}, peak of one thread {single:.1} GFLOP/s; bf16 {bf16:.1}, int8 {int8:.1}", isa.name());
    let bench = Bench { isa, filter };
    use Activation::{Gelu, None};
    for (name, pixels, k) in
        [("S0 stage 0", 128, 64), ("S0 stage 1", 128, 128), ("S0 stage 2", 64, 256), ("S0 stage 3", 64, 512)]
    {
        bench.gemm(name, pixels, k, 3 * k, None, false);
        bench.gemm(name, pixels, k, 3 * k, Gelu, false);
        bench.gemm(name, pixels, 3 * k, k, None, true);
    }
    for (name, pixels, k) in
        [("S2 stage 0", 128, 80), ("S2 stage 1", 128, 160), ("S2 stage 2", 64, 320), ("S2 stage 3", 64, 640)]
    {
        bench.gemm(name, pixels, k, 3 * k, Gelu, false);
        bench.gemm(name, pixels, 3 * k, k, None, true);
    }
    bench.gemm("text qkv", 77, 512, 1536, None, false);
    bench.gemm("text fc1", 77, 512, 2048, Gelu, false);
    bench.gemm("text fc2", 77, 2048, 512, None, true);
    bench.gemm("text fc1", 77, 768, 3072, Gelu, false);
    bench.gemm("B fc1", 197, 768, 3072, Gelu, false);
    bench.gemm("B fc2", 197, 3072, 768, None, true);
    for (channels, size) in [(64, 64), (128, 32), (256, 16), (512, 8), (80, 64)] {
        let name = format!("7x7 {channels}x{size}x{size}");
        bench.depthwise(&name, DepthwiseShape::square(channels, 1, 7, 1), size, None);
    }
    for (channels, size) in [(64, 64), (128, 32), (256, 16)] {
        let name = format!("3x3 {channels}x{size}x{size}");
        bench.depthwise(&name, DepthwiseShape::square(channels, 1, 3, 1), size, None);
    }
    bench.depthwise("3x3/2 64x128x128", DepthwiseShape::square(64, 1, 3, 2), 128, Gelu);
    bench.depthwise("7x7/2 128x64x64 doubled", DepthwiseShape::square(128, 2, 7, 2), 64, Gelu);
    bench.depthwise("3x3 1024x8x8 doubled", DepthwiseShape::square(1024, 2, 3, 1), 8, None);
    let stem = ConvShape { inputs: 3, outputs: 64, kernel: [3, 3], stride: 2, padding: 1 };
    bench.conv("stem 3->64 256x256", stem, 256, Gelu);
    let patch = ConvShape { inputs: 3, outputs: 768, kernel: [16, 16], stride: 16, padding: 0 };
    bench.conv("patch 16 3->768 224x224", patch, 224, None);
    let patch = ConvShape { inputs: 3, outputs: 192, kernel: [4, 4], stride: 4, padding: 0 };
    bench.conv("patch 4 3->192 224x224", patch, 224, Gelu);
    bench.attention("S0 64 tokens", 16, 32, 64, false);
    bench.attention("text 77 tokens", 8, 64, 77, false);
    bench.attention("text causal 77 tokens", 8, 64, 77, true);
    bench.attention("B 197 tokens", 12, 64, 197, false);
    bench.attention("H 257 tokens", 16, 80, 257, false);
    bench.bandwidth();
    bench.packing();
}
