use super::*;

/// SplitMix64: a fixed stream of test bytes.
struct Stream(u64);

impl Stream {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

const WIDTHS: [usize; 17] = [1, 2, 3, 7, 8, 15, 16, 17, 18, 19, 31, 32, 33, 34, 49, 67, 131];

#[test]
fn idct_of_dc_is_flat() {
    let mut block = [0; 64];
    block[0] = 10;
    let mut out = [0; 64];
    idct_blocks(&[block], &[8; 64], &mut out, 8);
    assert_eq!(out, [128 + 10; 64]);
}

/// The transform by its definition in f64, rounded: the fixed-point one differs by at most 1.
#[test]
fn idct_is_near_the_cosine_sum() {
    let mut stream = Stream(1);
    for _ in 0..200 {
        let block: [i16; 64] =
            std::array::from_fn(|i| (stream.next() % 401) as i16 / (1 + i as i16) - 200 / (1 + i as i16));
        let mut out = [0; 64];
        scalar::idct_blocks(&[block], &[1; 64], &mut out, 8);
        for y in 0..8 {
            for x in 0..8 {
                let mut sum = 0.0;
                for v in 0..8 {
                    for u in 0..8 {
                        let basis = |k: usize, at: usize| {
                            let norm = if k == 0 { 0.125f64.sqrt() } else { 0.5 };
                            norm * ((2 * at + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0).cos()
                        };
                        sum += f64::from(block[8 * v + u]) * basis(u, x) * basis(v, y);
                    }
                }
                let expected = (sum + 128.0).round().clamp(0.0, 255.0);
                let got = f64::from(out[8 * y + x]);
                assert!((got - expected).abs() <= 1.0, "({x}, {y}): {got}, expected {expected}");
            }
        }
    }
}

#[test]
fn idct_variants_agree() {
    let mut stream = Stream(2);
    // From sparse and small to dense and far out of range, where the 16-bit sums wrap and saturate.
    for round in 0..4000 {
        let n = 1 + round % 5;
        let kept = 1 + (stream.next() % 64) as usize;
        let bits = 1 + stream.next() % 16;
        let steps = 1 + stream.next() % 16;
        let coefs: Vec<Block<i16>> = (0..n)
            .map(|_| {
                let mut block = [0; 64];
                for c in &mut block[..kept] {
                    *c = (stream.next() as i16) >> (16 - bits);
                }
                block
            })
            .collect();
        let quant: Block<u16> = std::array::from_fn(|_| (stream.next() as u16) >> (16 - steps));
        let stride = 8 * n + round % 3;
        let mut expected = vec![77; 8 * stride];
        let mut got = expected.clone();
        scalar::idct_blocks(&coefs, &quant, &mut expected, stride);
        idct_blocks(&coefs, &quant, &mut got, stride);
        assert_eq!(got, expected, "round {round}: {n} blocks, {kept} coefficients of {bits} bits");
    }
}

#[test]
fn upsampling_variants_agree() {
    let mut stream = Stream(3);
    for n in WIDTHS {
        let (near, far) = (stream.bytes(n), stream.bytes(n));
        let mut expected = vec![0; 2 * n];
        let mut got = expected.clone();
        scalar::upsample_h2v1(&near, &mut expected);
        upsample_h2v1(&near, &mut got);
        assert_eq!(got, expected, "h2v1, {n} samples");
        scalar::upsample_h2v2(&near, &far, &mut expected);
        upsample_h2v2(&near, &far, &mut got);
        assert_eq!(got, expected, "h2v2, {n} samples");
    }
}

#[test]
fn upsampling_keeps_flat_rows() {
    let row = [200; 40];
    let mut out = [0; 80];
    upsample_h2v1(&row, &mut out);
    assert_eq!(out, [200; 80]);
    upsample_h2v2(&row, &row, &mut out);
    assert_eq!(out, [200; 80]);
}

#[test]
fn colours_agree_for_every_chroma_pair() {
    for cb in 0..=255u8 {
        for cr in 0..=255u8 {
            // Three luma values at both ends and in the middle make every clamp happen.
            let y: [u8; 17] = std::array::from_fn(|i| (i * 255 / 16) as u8);
            let mut rgb = Vec::new();
            append_ycc_as_rgb(&y, &[cb; 17], &[cr; 17], &mut rgb);
            assert_eq!(rgb.len(), 51);
            for (i, pixel) in rgb.as_chunks::<3>().0.iter().enumerate() {
                assert_eq!(*pixel, ycc_pixel(y[i], cb, cr), "y {} cb {cb} cr {cr}", y[i]);
            }
        }
    }
}

#[test]
fn colour_rows_of_every_width() {
    let mut stream = Stream(4);
    for n in WIDTHS {
        let (y, cb, cr) = (stream.bytes(n), stream.bytes(n), stream.bytes(n));
        let mut expected = vec![1, 2];
        let mut got = expected.clone();
        scalar::append_ycc_as_rgb(&y, &cb, &cr, &mut expected);
        append_ycc_as_rgb(&y, &cb, &cr, &mut got);
        assert_eq!(got, expected, "{n} pixels");
    }
    assert_eq!(ycc_pixel(76, 85, 255), [254, 0, 0]);
}

/// Whatever the numbers: sums wrap and saturate alike.
#[test]
fn reduced_idcts_equal_their_scalar_twins() {
    let mut stream = Stream(7);
    for round in 0..3000 {
        let shift = round % 16;
        let coefs: Vec<Block<i16>> = (0..3)
            .map(|_| {
                std::array::from_fn(|i| if i > round / 8 % 70 { 0 } else { stream.next() as i16 >> shift })
            })
            .collect();
        let quant: Block<u16> = std::array::from_fn(|_| stream.next() as u16 >> (round % 13));
        let whole = |size: usize| {
            let mut out = vec![0; size * 3 * size];
            idct_blocks_reduced(&coefs, &quant, size, &mut out, 3 * size);
            out
        };
        let (mut two, mut four) = (vec![0; 2 * 6], vec![0; 4 * 12]);
        reduced::idct_blocks::<2>(&coefs, &quant, &mut two, 6);
        reduced::idct_blocks::<4>(&coefs, &quant, &mut four, 12);
        assert_eq!((whole(2), whole(4)), (two, four), "round {round}");
        let mut eight = vec![0; 8 * 24];
        idct_blocks(&coefs, &quant, &mut eight, 24);
        assert_eq!(whole(8), eight);
    }
}

#[test]
fn reduced_idcts_of_dc_are_flat() {
    let mut block = [0; 64];
    block[0] = 10;
    for size in [1, 2, 4, 8] {
        let mut out = vec![0; size * size];
        idct_blocks_reduced(&[block], &[8; 64], size, &mut out, size);
        assert_eq!(out, vec![128 + 10; size * size]);
    }
}
