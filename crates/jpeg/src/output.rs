use crate::frame::{Block, Component, Frame};
use crate::reduction::Reduction;
use mobileclip_kernels::jpeg::{
    append_ycc_as_rgb, idct_blocks_reduced, upsample_h2v1, upsample_h2v2, ycc_pixel,
};

/// What the components stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colours {
    Gray,
    YCbCr,
    Rgb,
    Cmyk,
    Ycck,
}

impl Colours {
    /// libjpeg's guess from the number of components, the JFIF and Adobe segments and the component ids.
    pub fn guess(frame: &Frame, has_jfif: bool, adobe_transform: Option<u8>) -> Self {
        let ids: Vec<u8> = frame.components.iter().map(|c| c.id).collect();
        match (ids.len(), adobe_transform) {
            (1, _) => Self::Gray,
            (3, _) if has_jfif => Self::YCbCr,
            (3, Some(0)) => Self::Rgb,
            (3, None) if ids == *b"RGB" => Self::Rgb,
            (3, _) => Self::YCbCr,
            (_, None | Some(0)) => Self::Cmyk,
            _ => Self::Ycck,
        }
    }
}

/// How a component's samples become as many as the image has pixels.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upsampling {
    None,
    /// Triangle filter across, down, or both.
    TriangleH2V1,
    TriangleH1V2,
    TriangleH2V2,
    /// Each sample repeated.
    Box {
        across: usize,
        down: usize,
    },
}

impl Upsampling {
    /// `side` is the length of a block in samples of this component, `width` that of its rows.
    fn of(component: &Component, frame: &Frame, reduction: Reduction, side: usize, width: usize) -> Self {
        let least = reduction.side();
        let across = frame.h_max * least / (component.h * side);
        let down = frame.v_max * least / (component.v * side);
        match (across, down) {
            (1, 1) => Self::None,
            // libjpeg does not filter where a block gives one pixel.
            _ if least == 1 => Self::Box { across, down },
            (1, 2) => Self::TriangleH1V2,
            // Rows of 1 or 2 samples are too short for libjpeg's horizontal filter.
            (2, 1) if width > 2 => Self::TriangleH2V1,
            (2, 2) if width > 2 => Self::TriangleH2V2,
            _ => Self::Box { across, down },
        }
    }

    /// Whether a row depends on the source rows above and below.
    fn has_context(self) -> bool {
        matches!(self, Self::TriangleH1V2 | Self::TriangleH2V2)
    }
}

/// A component's samples: a ring of two MCU rows, so that rows above and below are at hand.
struct Plane {
    samples: Vec<u8>,
    stride: usize,
    ring_rows: usize,
    /// Size of what the image covers, in samples.
    width: usize,
    height: usize,
    /// Rows of blocks in an MCU row.
    block_rows: usize,
    /// Samples that a block gives, in both directions.
    side: usize,
    quant: [u16; 64],
    upsampling: Upsampling,
    /// The upsampled row.
    row: Vec<u8>,
}

impl Plane {
    fn new(component: &Component, frame: &Frame, reduction: Reduction) -> Self {
        let side = reduction.side_of(component, frame);
        let stride = side * component.stride;
        let ring_rows = 2 * side * component.v;
        let width = (frame.width * component.h * side).div_ceil(frame.h_max * 8);
        let height = (frame.height * component.v * side).div_ceil(frame.v_max * 8);
        let upsampling = Upsampling::of(component, frame, reduction, side, width);
        let row_length = if upsampling == Upsampling::None {
            0
        } else {
            component.stride * reduction.side() * (frame.h_max / component.h)
        };
        Self {
            samples: vec![0; stride * ring_rows],
            stride,
            ring_rows,
            width,
            height,
            block_rows: component.v,
            side,
            // Without a scan there are no coefficients, and any table gives gray.
            quant: component.quant.unwrap_or([0; 64]),
            upsampling,
            row: vec![0; row_length],
        }
    }

    fn source_row(&self, row: usize) -> &[u8] {
        let start = row % self.ring_rows * self.stride;
        &self.samples[start..start + self.width]
    }

    /// Computes the row of the image at height `y` where it is not a row of samples already.
    fn upsample(&mut self, y: usize) {
        let mut row = std::mem::take(&mut self.row);
        // The nearer source row of a doubled one, and the farther: above for the first of a pair, else below.
        let near = y / 2;
        let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(self.height - 1) };
        match self.upsampling {
            Upsampling::None => {}
            Upsampling::TriangleH2V1 => upsample_h2v1(self.source_row(y), &mut row),
            Upsampling::TriangleH2V2 => {
                upsample_h2v2(self.source_row(near), self.source_row(far), &mut row);
            }
            Upsampling::TriangleH1V2 => {
                // Halves round down in the first row of a pair, up in the second.
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                let sources = self.source_row(near).iter().zip(self.source_row(far));
                for (out, (&near, &far)) in row.iter_mut().zip(sources) {
                    *out = ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
                }
            }
            Upsampling::Box { across, down } => {
                for (out, &sample) in row.chunks_exact_mut(across).zip(self.source_row(y / down)) {
                    out.fill(sample);
                }
            }
        }
        self.row = row;
    }

    /// The row of the image at height `y`, after [`Plane::upsample`].
    fn image_row(&self, y: usize, width: usize) -> &[u8] {
        match self.upsampling {
            Upsampling::None => &self.source_row(y)[..width],
            _ => &self.row[..width],
        }
    }
}

/// Turns coefficients into pixels, MCU row by MCU row.
pub(crate) struct Output {
    planes: Vec<Plane>,
    colours: Colours,
    width: usize,
    height: usize,
    /// Rows of the image in an MCU row.
    mcu_height: usize,
    mcu_rows_done: usize,
    has_context: bool,
    channels: usize,
    pixels: Vec<u8>,
}

impl Output {
    pub fn new(frame: &Frame, colours: Colours, reduction: Reduction) -> Self {
        let planes: Vec<Plane> = frame.components.iter().map(|c| Plane::new(c, frame, reduction)).collect();
        let channels = if colours == Colours::Gray { 1 } else { 3 };
        let (width, height) = reduction.size(frame.width, frame.height);
        Self {
            has_context: planes.iter().any(|plane| plane.upsampling.has_context()),
            planes,
            colours,
            width,
            height,
            mcu_height: reduction.side() * frame.v_max,
            mcu_rows_done: 0,
            channels,
            pixels: Vec::with_capacity(width * height * channels),
        }
    }

    /// Bytes of the sample rings.
    pub fn ring_bytes(frame: &Frame) -> usize {
        frame.components.iter().map(|c| 8 * c.stride * (16 * c.v + frame.h_max)).sum()
    }

    /// Takes neighbouring blocks of component `index` that belong to row `block_row` of the next MCU row, from block
    /// column `column` on. All blocks come before [`Output::finish_row`].
    pub fn transform(&mut self, index: usize, block_row: usize, column: usize, blocks: &[Block]) {
        let plane = &mut self.planes[index];
        let side = plane.side;
        let row = (self.mcu_rows_done * plane.block_rows + block_row) * side % plane.ring_rows;
        let samples = &mut plane.samples[row * plane.stride..(row + side) * plane.stride];
        idct_blocks_reduced(blocks, &plane.quant, side, &mut samples[side * column..], plane.stride);
    }

    /// Makes the pixel rows that the MCU rows so far determine.
    pub fn finish_row(&mut self) {
        self.mcu_rows_done += 1;
        let reached = self.mcu_rows_done * self.mcu_height;
        // The lower output row of the last source row waits for the source row below.
        let ready =
            if reached >= self.height { self.height } else { reached - usize::from(self.has_context) };
        for y in self.pixels.len() / (self.width * self.channels)..ready {
            self.emit(y);
        }
    }

    fn emit(&mut self, y: usize) {
        for plane in &mut self.planes {
            plane.upsample(y);
        }
        let row = |index: usize| self.planes[index].image_row(y, self.width);
        let pixels = &mut self.pixels;
        match self.colours {
            Colours::Gray => pixels.extend_from_slice(row(0)),
            Colours::YCbCr => append_ycc_as_rgb(row(0), row(1), row(2), pixels),
            Colours::Rgb => {
                let (r, g, b) = (row(0), row(1), row(2));
                pixels.extend((0..self.width).flat_map(|x| [r[x], g[x], b[x]]));
            }
            Colours::Cmyk | Colours::Ycck => {
                let (c, m, y, k) = (row(0), row(1), row(2), row(3));
                pixels.extend((0..self.width).flat_map(|x| {
                    let inks = if self.colours == Colours::Cmyk {
                        [c[x], m[x], y[x]]
                    } else {
                        ycc_pixel(c[x], m[x], y[x]).map(|v| 255 - v)
                    };
                    // Adobe stores inks inverted, and Pillow takes every four-component file so: what is stored
                    // is the light that an ink leaves.
                    inks.map(|ink| multiply(ink, k[x]))
                }));
            }
        }
    }

    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }
}

/// a b / 255, rounded.
fn multiply(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    ((product + (product >> 8)) >> 8) as u8
}
