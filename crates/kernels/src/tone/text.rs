//! The loops, for every instruction set the same; the callers' `target_feature` decides into which instructions they are turned.

/// Pixels that are taken apart into channels at once.
const BLOCK: usize = 32;

/// d + f (v - d), cut off and clamped.
#[inline(always)]
fn blend(d: u8, v: u8, factor: f32) -> u8 {
    let blended = f32::from(d) + factor * f32::from(i16::from(v) - i16::from(d));
    // SAFETY: `factor` is finite (asserted by every caller) and so is what is made of it and a sample; the clamp bounds it.
    let whole: i32 = unsafe { blended.clamp(0.0, 255.0).to_int_unchecked() };
    whole as u8
}

#[inline(always)]
pub(super) fn blend_constant(samples: &mut [u8], constant: u8, factor: f32) {
    for v in samples {
        *v = blend(constant, *v, factor);
    }
}

#[inline(always)]
fn grey(r: u8, g: u8, b: u8) -> u8 {
    ((19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b) + 0x8000) >> 16) as u8
}

/// The greys of up to [`BLOCK`] pixels.
#[inline(always)]
fn greys(pixels: &[[u8; 3]; BLOCK]) -> [u8; BLOCK] {
    let mut out = [0; BLOCK];
    for (grey_of, &[r, g, b]) in out.iter_mut().zip(pixels) {
        *grey_of = grey(r, g, b);
    }
    out
}

#[inline(always)]
pub(super) fn blend_grey(pixels: &mut [u8], factor: f32) {
    let (pixels, _) = pixels.as_chunks_mut::<3>();
    let (blocks, rest) = pixels.as_chunks_mut::<BLOCK>();
    for block in blocks {
        let greys = greys(block);
        // Blending is the same for each sample, so it need not know of pixels.
        let mut dull = [[0; 3]; BLOCK];
        for (pixel, grey) in dull.iter_mut().zip(greys) {
            *pixel = [grey; 3];
        }
        for (v, d) in block.as_flattened_mut().iter_mut().zip(dull.as_flattened()) {
            *v = blend(*d, *v, factor);
        }
    }
    for pixel in rest {
        let d = grey(pixel[0], pixel[1], pixel[2]);
        *pixel = pixel.map(|v| blend(d, v, factor));
    }
}

#[inline(always)]
pub(super) fn grey_sum(pixels: &[u8]) -> u64 {
    let (pixels, _) = pixels.as_chunks::<3>();
    let (blocks, rest) = pixels.as_chunks::<BLOCK>();
    let of_blocks = blocks.iter().map(|block| greys(block).iter().map(|&v| u32::from(v)).sum::<u32>());
    let of_rest = rest.iter().map(|&[r, g, b]| u32::from(grey(r, g, b)));
    of_blocks.chain(of_rest).map(u64::from).sum()
}

/// The inner pixels of the middle one of three rows. `rows`: [3, width, 3]; `out`: [width - 2, 3].
#[inline(always)]
pub(super) fn sharpen_row([above, row, below]: [&[u8]; 3], out: &mut [u8], factor: f32) {
    let n = out.len();
    // Slices of one length, so that no access in the loop needs a check.
    let columns = |row| -> [&[u8]; 3] { [0, 3, 6].map(|left| &(row as &[u8])[left..][..n]) };
    let (above, row, below) = (columns(above), columns(row), columns(below));
    for i in 0..n {
        let sum = |of: [&[u8]; 3]| u16::from(of[0][i]) + u16::from(of[1][i]) + u16::from(of[2][i]);
        let v = row[1][i];
        let weighed = sum(above) + sum(row) + sum(below) + 4 * u16::from(v);
        // weighed / 13, rounded: twice a number below 3316 and 13 fit into 16 bits.
        let smooth = ((2 * weighed + 13) / 26) as u8;
        out[i] = blend(smooth, v, factor);
    }
}
