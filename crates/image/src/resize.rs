//! Pillow's `Image.resize`, byte for byte, computing only a window of the result.
//!
//! Two passes with a rounded 8-bit image between them. The image between is never stored whole: rows pass through a block of
//! [`BLOCK_ROWS`] (horizontal first) or are made one by one (vertical first), so memory is bounded by the window, not by the image.

use std::collections::VecDeque;
use std::ops::Range;

use mobileclip_kernels::resize::{Backend, HALF, ROWS_AT_ONCE, RgbFilter, Taps, accumulate, finish};
use serde::{Deserialize, Serialize};

use crate::filter::{nearest, taps};
use crate::rgb::{Rect, RgbImage, View};
use crate::{Error, Filter};

/// Rows of the image between the passes that are kept at once; 16 rows of a 256-pixel window fit into a first-level cache.
const BLOCK_ROWS: usize = 16;

/// The longest side that can be resized, in or out. Beyond 2²⁴ Pillow itself is no longer exact (it keeps the box in f32), and the
/// weights of one axis, a few for each source pixel, would take gigabytes.
pub const MAX_SIDE: usize = 1 << 24;

/// Which of the two passes comes first; the image between them is rounded, so the order shows in the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PassOrder {
    /// As Pillow 13: vertical first if the height shrinks by more than twice what the width shrinks by.
    #[default]
    Pillow13,
    /// As Pillow 12.2 and 12.3: vertical first if the height shrinks and is more than 100 times the width.
    Pillow12_2,
    /// As every Pillow before 12.2.
    HorizontalFirst,
}

/// Resizes to `width` x `height`, whatever the aspect.
///
/// ```
/// use mobileclip_image::{Filter, PassOrder, RgbImage, resize};
/// let image = RgbImage::new(2, 1, vec![0, 0, 0, 255, 255, 255])?;
/// let wide = resize(&image, 4, 1, Filter::Bilinear, PassOrder::Pillow13)?;
/// assert_eq!(wide.pixels(), [0, 0, 0, 64, 64, 64, 191, 191, 191, 255, 255, 255]);
/// # Ok::<(), mobileclip_image::Error>(())
/// ```
///
/// # Errors
/// [`Error::Side`] if a side is zero or longer than [`MAX_SIDE`].
pub fn resize(
    image: &RgbImage,
    width: usize,
    height: usize,
    filter: Filter,
    order: PassOrder,
) -> Result<RgbImage, Error> {
    check_side(width.max(height))?;
    resize_view(image.view(), (width, height), (0..width, 0..height), filter, order)
}

/// Cuts `area` out of the image (pixels outside are black), then resizes that to `width` x `height`: the filter never sees a pixel
/// outside `area`. This is how random resized crops are made.
///
/// # Errors
/// [`Error::Side`] if a side of `area` or of the result is zero or longer than [`MAX_SIDE`].
pub fn crop_resize(
    image: &RgbImage,
    area: Rect,
    width: usize,
    height: usize,
    filter: Filter,
    order: PassOrder,
) -> Result<RgbImage, Error> {
    check_side(area.width.max(area.height))?;
    let is_inside = area.is_inside(image.width(), image.height()) && area.width > 0 && area.height > 0;
    match (usize::try_from(area.left), usize::try_from(area.top)) {
        (Ok(left), Ok(top)) if is_inside => {
            check_side(width.max(height))?;
            let view = image.window(left, top, area.width, area.height);
            resize_view(view, (width, height), (0..width, 0..height), filter, order)
        }
        _ => resize(&image.crop(area, 0), width, height, filter, order),
    }
}

fn check_side(side: usize) -> Result<(), Error> {
    if side == 0 || side > MAX_SIDE {
        return Err(Error::Side { found: side, limit: MAX_SIDE });
    }
    Ok(())
}

/// The window `columns` x `rows` of the image resized to `full` (width, height).
///
/// # Errors
/// [`Error::Side`] if a side of the source or the window is zero or longer than [`MAX_SIDE`], or the full size leaves 31 bits (where
/// the reference fails as well).
pub(crate) fn resize_view(
    src: View<'_>,
    full: (usize, usize),
    (columns, rows): (Range<usize>, Range<usize>),
    filter: Filter,
    order: PassOrder,
) -> Result<RgbImage, Error> {
    for side in [src.width, src.height, columns.len(), rows.len()] {
        check_side(side)?;
    }
    for side in [full.0, full.1] {
        let limit = i32::MAX as usize;
        if side == 0 || side > limit {
            return Err(Error::Side { found: side, limit });
        }
    }
    let bytes = columns.len() * rows.len() * 3;
    let mut out = RgbImage::from_parts(columns.len(), rows.len(), vec![0; bytes]);
    let (same_width, same_height) = (full.0 == src.width, full.1 == src.height);
    let backend = Backend::best();
    if filter == Filter::Nearest {
        pick(src, full, columns, rows, &mut out);
    } else if same_width && same_height {
        let part = View {
            bytes: &src.bytes[rows.start * src.stride + columns.start * 3..],
            width: columns.len(),
            ..src
        };
        out.paste(View { height: rows.len(), ..part }, 0, 0);
    } else if same_width {
        let vertical = taps(src.height, full.1, rows, filter);
        vertical_only(backend, src, columns.start, &vertical, &mut out);
    } else if same_height {
        let horizontal = RgbFilter::new(backend, taps(src.width, full.0, columns.clone(), filter));
        let stride = columns.len() * 3;
        let count = rows.len();
        horizontal.apply(&src.bytes[rows.start * src.stride..], src.stride, out.pixels_mut(), stride, count);
    } else {
        let horizontal = taps(src.width, full.0, columns, filter);
        let vertical = taps(src.height, full.1, rows, filter);
        if vertical_first(src, full, order) {
            vertical_then_horizontal(backend, src, &horizontal, &vertical, &mut out);
        } else {
            horizontal_then_vertical(backend, src, horizontal, &vertical, &mut out);
        }
    }
    Ok(out)
}

/// Pillow 13's rule stands in its `ImagingResample`, that of 12.2 in `Image.resize`.
fn vertical_first(src: View<'_>, full: (usize, usize), order: PassOrder) -> bool {
    let removed = |from: usize, to: usize| from as i128 - to as i128;
    let rows_removed = removed(src.height, full.1);
    rows_removed > 0
        && match order {
            PassOrder::Pillow13 => rows_removed > 2 * removed(src.width, full.0),
            PassOrder::Pillow12_2 => src.height > src.width.saturating_mul(100),
            PassOrder::HorizontalFirst => false,
        }
}

fn pick(src: View<'_>, full: (usize, usize), columns: Range<usize>, rows: Range<usize>, out: &mut RgbImage) {
    let columns = nearest(src.width, full.0, columns);
    let rows = nearest(src.height, full.1, rows);
    let stride = columns.len() * 3;
    for (out, &y) in out.pixels_mut().chunks_exact_mut(stride).zip(&rows) {
        let row = src.row(y);
        for (pixel, &x) in out.chunks_exact_mut(3).zip(&columns) {
            pixel.copy_from_slice(&row[x * 3..x * 3 + 3]);
        }
    }
}

fn vertical_only(backend: Backend, src: View<'_>, left: usize, vertical: &Taps, out: &mut RgbImage) {
    let stride = out.width() * 3;
    let mut sums = vec![0; stride];
    for (i, row) in out.pixels_mut().chunks_exact_mut(stride).enumerate() {
        filter_column_block(backend, src, left, vertical, i, &mut sums, row);
    }
}

/// Output row `i` of the vertical filter over the columns from `left`, as many as `row` holds.
fn filter_column_block(
    backend: Backend,
    src: View<'_>,
    left: usize,
    vertical: &Taps,
    i: usize,
    sums: &mut [i32],
    row: &mut [u8],
) {
    let (start, weights) = vertical.output(i);
    sums.fill(HALF);
    accumulate(backend, sums, weights, &src.bytes[start * src.stride + left * 3..], src.stride);
    finish(backend, sums, row);
}

fn vertical_then_horizontal(
    backend: Backend,
    src: View<'_>,
    horizontal: &Taps,
    vertical: &Taps,
    out: &mut RgbImage,
) {
    // Only the columns that the window's outputs look at.
    let (left, _) = horizontal.output(0);
    let right = (0..horizontal.len())
        .map(|i| horizontal.output(i))
        .map(|(start, w)| start + w.len())
        .max()
        .unwrap_or(left);
    let mut moved = Taps::new(right - left);
    for i in 0..horizontal.len() {
        let (start, weights) = horizontal.output(i);
        moved.push(start - left, weights);
    }
    let horizontal = RgbFilter::new(backend, moved);
    let between_stride = (right - left) * 3;
    let stride = out.width() * 3;
    let mut sums = vec![0; between_stride];
    let mut between = vec![0; between_stride * ROWS_AT_ONCE];
    for (block, rows) in out.pixels_mut().chunks_mut(stride * ROWS_AT_ONCE).enumerate() {
        let count = rows.len() / stride;
        for (k, row) in between.chunks_exact_mut(between_stride).take(count).enumerate() {
            filter_column_block(backend, src, left, vertical, block * ROWS_AT_ONCE + k, &mut sums, row);
        }
        horizontal.apply(&between, between_stride, rows, stride, count);
    }
}

/// Source rows pass through in blocks; each block is filtered horizontally, then added to the sums of every output row that it
/// touches. An output row is finished, and its sums given to another one, when its last source row has passed.
fn horizontal_then_vertical(
    backend: Backend,
    src: View<'_>,
    horizontal: Taps,
    vertical: &Taps,
    out: &mut RgbImage,
) {
    let horizontal = RgbFilter::new(backend, horizontal);
    let stride = out.width() * 3;
    let pixels = out.pixels_mut();
    let mut block = vec![0; stride * BLOCK_ROWS];
    let mut open: VecDeque<Vec<i32>> = VecDeque::new();
    let mut free: Vec<Vec<i32>> = Vec::new();
    let (mut first_open, mut next) = (0, 0);
    let (mut top, _) = vertical.output(0);
    while first_open < vertical.len() {
        let count = BLOCK_ROWS.min(src.height - top);
        horizontal.apply(&src.bytes[top * src.stride..], src.stride, &mut block, stride, count);
        let bottom = top + count;
        while next < vertical.len() && vertical.output(next).0 < bottom {
            let mut sums = free.pop().unwrap_or_else(|| vec![0; stride]);
            sums.fill(HALF);
            open.push_back(sums);
            next += 1;
        }
        for (sums, i) in open.iter_mut().zip(first_open..next) {
            let (start, weights) = vertical.output(i);
            let (from, to) = (start.max(top), (start + weights.len()).min(bottom));
            if from < to {
                accumulate(
                    backend,
                    sums,
                    &weights[from - start..to - start],
                    &block[(from - top) * stride..],
                    stride,
                );
            }
        }
        while first_open < next {
            let (start, weights) = vertical.output(first_open);
            if start + weights.len() > bottom {
                break;
            }
            if let Some(sums) = open.pop_front() {
                finish(backend, &sums, &mut pixels[first_open * stride..][..stride]);
                free.push(sums);
            }
            first_open += 1;
        }
        top = bottom;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pillow_has_its_rule() {
        let first = |width, height, to, order| {
            let view = View { bytes: &[], stride: 0, width, height };
            vertical_first(view, to, order)
        };
        let of = |width, height, to| {
            [PassOrder::Pillow13, PassOrder::Pillow12_2, PassOrder::HorizontalFirst]
                .map(|order| first(width, height, to, order))
        };
        assert_eq!(of(10, 1001, (20, 1000)), [true, true, false]);
        assert_eq!(of(10, 1000, (20, 999)), [true, false, false]);
        assert_eq!(of(10, 1001, (20, 1001)), [false, false, false]);
        assert_eq!(of(300, 2000, (100, 1600)), [false, false, false]);
        assert_eq!(of(300, 2000, (100, 1599)), [true, false, false]);
    }
}
