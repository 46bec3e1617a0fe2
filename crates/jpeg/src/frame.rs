use crate::Error;
use crate::markers::Tables;

/// Largest width and height that libjpeg accepts.
const MAX_DIMENSION: usize = 65_500;

/// Coefficients of one 8 x 8 block, in natural (row-major) order.
pub(crate) type Block = [i16; 64];

/// Position in natural order of the k-th coefficient in zigzag order.
///
/// Damaged data can count past 63; as in libjpeg such coefficients land in the last position. From 96 on the order
/// repeats: the sequential decoder stores a block's last coefficient again there.
pub(crate) static NATURAL_ORDER: [u8; 256] = {
    #[rustfmt::skip]
    let zigzag = [
         0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
        12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
        35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
        58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
    ];
    let mut order = [63; 256];
    let mut k = 0;
    while k < 64 {
        order[k] = zigzag[k];
        order[96 + k] = zigzag[k];
        k += 1;
    }
    order
};

/// What the frame header says, with the sizes that follow from it.
#[derive(Debug)]
pub(crate) struct Frame {
    pub progressive: bool,
    pub width: usize,
    pub height: usize,
    /// Largest sampling factors of all components.
    pub h_max: usize,
    pub v_max: usize,
    /// Size in fully interleaved MCUs.
    pub mcus_per_row: usize,
    pub mcu_rows: usize,
    pub components: Vec<Component>,
}

/// One colour component. Width and height are in samples or blocks of this component, not in pixels.
#[derive(Debug)]
pub(crate) struct Component {
    pub id: u8,
    /// Sampling factors: blocks of this component in an interleaved MCU.
    pub h: usize,
    pub v: usize,
    pub quant_index: u8,
    /// The quantisation table as it stood at the component's first scan.
    pub quant: Option<[u16; 64]>,
    /// Size in blocks that cover the image.
    pub block_columns: usize,
    pub block_rows: usize,
    /// Blocks in a row of stored coefficients: `block_columns` filled up to whole MCUs.
    pub stride: usize,
}

impl Frame {
    /// Reads a frame header (the segment's content after its length).
    pub fn parse(segment: &[u8], progressive: bool) -> Result<Self, Error> {
        let bad = |reason| Err(Error::Malformed { segment: "SOF", reason });
        let Some((&[precision, h1, h0, w1, w0, count], specs)) = segment.split_first_chunk::<6>() else {
            return bad("too short");
        };
        let height = usize::from(u16::from_be_bytes([h1, h0]));
        let width = usize::from(u16::from_be_bytes([w1, w0]));
        if width == 0 || height == 0 {
            // A height of 0 would be given later by a DNL segment, which libjpeg does not support either.
            return bad("width or height is 0");
        }
        if width > MAX_DIMENSION || height > MAX_DIMENSION {
            return Err(Error::Unsupported { what: "width or height over 65500" });
        }
        if precision != 8 {
            return Err(Error::Unsupported { what: "samples that do not have 8 bits" });
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(Error::Unsupported { what: "a number of components other than 1, 3 or 4" });
        }
        let (specs, rest) = specs.as_chunks::<3>();
        if specs.len() != usize::from(count) || !rest.is_empty() {
            return bad("length does not fit the number of components");
        }
        let mut factors = Vec::with_capacity(specs.len());
        for &[_, sampling, _] in specs {
            let (h, v) = (usize::from(sampling >> 4), usize::from(sampling & 15));
            if !(1..=4).contains(&h) || !(1..=4).contains(&v) {
                return bad("sampling factor outside 1..=4");
            }
            factors.push((h, v));
        }
        let h_max = factors.iter().map(|f| f.0).max().unwrap_or(1);
        let v_max = factors.iter().map(|f| f.1).max().unwrap_or(1);
        if factors.iter().any(|(h, v)| h_max % h != 0 || v_max % v != 0) {
            return Err(Error::Unsupported { what: "sampling factors that do not divide each other" });
        }
        let mcus_per_row = width.div_ceil(8 * h_max);
        let mcu_rows = height.div_ceil(8 * v_max);
        let components = specs
            .iter()
            .zip(factors)
            .map(|(&[id, _, quant_index], (h, v))| Component {
                id,
                h,
                v,
                quant_index,
                quant: None,
                block_columns: (width * h).div_ceil(8 * h_max),
                block_rows: (height * v).div_ceil(8 * v_max),
                stride: mcus_per_row * h,
            })
            .collect();
        Ok(Self { progressive, width, height, h_max, v_max, mcus_per_row, mcu_rows, components })
    }

    /// MCUs in a row of stored coefficients.
    pub fn stride_in_mcus(&self, scan: &Scan) -> usize {
        match &scan.components[..] {
            [one] => self.components[one.index].stride,
            _ => self.mcus_per_row,
        }
    }

    /// Keeps the current quantisation tables for the components that appear in their first scan.
    pub fn latch_quantisation(&mut self, scan: &Scan, tables: &Tables) -> Result<(), Error> {
        for selected in &scan.components {
            let component = &mut self.components[selected.index];
            if component.quant.is_none() {
                let table = tables.quant.get(usize::from(component.quant_index)).copied().flatten();
                component.quant =
                    Some(table.ok_or(Error::Malformed { segment: "SOS", reason: "no quantisation table" })?);
            }
        }
        Ok(())
    }
}

/// A scan header.
#[derive(Debug)]
pub(crate) struct Scan {
    pub components: Vec<ScanComponent>,
    /// First and last coefficient of the band, in zigzag order.
    pub band_start: u8,
    pub band_end: u8,
    /// Successive approximation: the bit position of the previous scan of this band (0: none) and of this one.
    pub bit_high: u8,
    pub bit_low: u8,
}

/// A component's part in a scan.
#[derive(Debug)]
pub(crate) struct ScanComponent {
    /// Index into [`Frame::components`].
    pub index: usize,
    pub dc_table: u8,
    pub ac_table: u8,
}

impl Scan {
    /// Reads a scan header (the segment's content after its length).
    pub fn parse(segment: &[u8], frame: &Frame) -> Result<Self, Error> {
        let bad = |reason| Err(Error::Malformed { segment: "SOS", reason });
        let Some((&count, rest)) = segment.split_first() else {
            return bad("too short");
        };
        let count = usize::from(count);
        if !(1..=4).contains(&count) || rest.len() != 2 * count + 3 {
            return bad("length does not fit the number of components");
        }
        let (specs, parameters) = rest.split_at(2 * count);
        let mut components: Vec<ScanComponent> = Vec::with_capacity(count);
        for &[id, tables] in specs.as_chunks::<2>().0 {
            // libjpeg skips as many components as the list already has: repeated ids are told apart by order, and a
            // list out of the frame's order is refused.
            let found = frame.components.iter().enumerate().skip(components.len()).find(|(_, c)| c.id == id);
            let Some((index, _)) = found else {
                return bad("unknown component");
            };
            if components.iter().any(|c| c.index == index) {
                return bad("component named twice");
            }
            components.push(ScanComponent { index, dc_table: tables >> 4, ac_table: tables & 15 });
        }
        let &[band_start, band_end, approximation] = parameters else {
            return bad("too short");
        };
        if components.len() > 1 {
            let blocks: usize =
                components.iter().map(|c| frame.components[c.index].h * frame.components[c.index].v).sum();
            if blocks > 10 {
                return bad("more than 10 blocks in an MCU");
            }
        }
        Ok(Self {
            components,
            band_start,
            band_end,
            bit_high: approximation >> 4,
            bit_low: approximation & 15,
        })
    }
}
