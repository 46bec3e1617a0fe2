//! Between the blocked layout and everybody else's.

use crate::map::{MapMut, MapRef};
use crate::simd::LANES;

/// `[channels][pixels]` to blocked; lanes beyond the channels become 0.
///
/// # Panics
/// If `planar` is not `channels` times the view's pixels, or the view has not the blocks for them.
pub fn pack_planar(planar: &[f32], channels: usize, mut out: MapMut<'_>) {
    assert_eq!(planar.len(), channels * out.pixels(), "planar length");
    assert_eq!(channels.div_ceil(LANES), out.blocks(), "blocks");
    for p in 0..out.pixels() {
        for b in 0..out.blocks() {
            let lanes = out.lanes_mut(b, p);
            lanes.fill(0.0);
            for (i, c) in (b * LANES..channels.min((b + 1) * LANES)).enumerate() {
                lanes[i] = planar[c * (planar.len() / channels) + p];
            }
        }
    }
}

/// Blocked to `[channels][pixels]`.
///
/// # Panics
/// As [`pack_planar`].
pub fn unpack_planar(input: MapRef<'_>, channels: usize, planar: &mut [f32]) {
    assert_eq!(planar.len(), channels * input.pixels(), "planar length");
    assert_eq!(channels.div_ceil(LANES), input.blocks(), "blocks");
    for p in 0..input.pixels() {
        for c in 0..channels {
            planar[c * input.pixels() + p] = input.lanes(c / LANES, p)[c % LANES];
        }
    }
}

/// `[pixels][channels]` to blocked; lanes beyond the channels become 0.
///
/// # Panics
/// As [`pack_planar`].
pub fn pack_rows(rows: &[f32], channels: usize, mut out: MapMut<'_>) {
    assert_eq!(rows.len(), channels * out.pixels(), "length of the rows");
    for p in 0..out.pixels() {
        write_pixel(&rows[p * channels..(p + 1) * channels], p, out.reborrow());
    }
}

/// Blocked to `[pixels][channels]`.
///
/// # Panics
/// As [`pack_planar`].
pub fn unpack_rows(input: MapRef<'_>, channels: usize, rows: &mut [f32]) {
    assert_eq!(rows.len(), channels * input.pixels(), "length of the rows");
    for p in 0..input.pixels() {
        read_pixel(input, p, &mut rows[p * channels..(p + 1) * channels]);
    }
}

/// Writes one pixel's channels; lanes beyond them become 0.
///
/// # Panics
/// If the view has not the blocks for `values`, or not the pixel.
pub fn write_pixel(values: &[f32], pixel: usize, mut out: MapMut<'_>) {
    assert_eq!(values.len().div_ceil(LANES), out.blocks(), "blocks");
    for (b, v) in values.chunks(LANES).enumerate() {
        let lanes = out.lanes_mut(b, pixel);
        lanes[..v.len()].copy_from_slice(v);
        lanes[v.len()..].fill(0.0);
    }
}

/// Reads one pixel's channels, as many as `out` has.
///
/// # Panics
/// If the view has not the blocks for `out`, or not the pixel.
pub fn read_pixel(input: MapRef<'_>, pixel: usize, out: &mut [f32]) {
    assert_eq!(out.len().div_ceil(LANES), input.blocks(), "blocks");
    for (b, v) in out.chunks_mut(LANES).enumerate() {
        v.copy_from_slice(&input.lanes(b, pixel)[..v.len()]);
    }
}

/// Embeds tokens: pixel t becomes row `ids[t]` of `table` `[rows][width]`, plus row t of `positions` `[>= T][width]`.
///
/// # Panics
/// If an id is not in the table, or lengths do not fit.
pub fn gather_rows(table: &[f32], width: usize, ids: &[u32], positions: Option<&[f32]>, mut out: MapMut<'_>) {
    assert_eq!(ids.len(), out.pixels(), "one id for each token");
    assert_eq!(width.div_ceil(LANES), out.blocks(), "blocks");
    for (t, id) in ids.iter().enumerate() {
        let row = &table[*id as usize * width..][..width];
        write_pixel(row, t, out.reborrow());
        if let Some(positions) = positions {
            for (b, v) in positions[t * width..][..width].chunks(LANES).enumerate() {
                for (o, v) in out.lanes_mut(b, t).iter_mut().zip(v) {
                    *o += v;
                }
            }
        }
    }
}
