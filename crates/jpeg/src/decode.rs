use crate::Error;
use crate::entropy::EntropyData;
use crate::frame::{Block, Frame, Scan};
use crate::huffman::typical_codes;
use crate::markers::{Reader, Stop};
use crate::output::{Colours, Output};
use crate::progressive::{Accuracy, ProgressiveScan};
use crate::reduction::Reduction;
use crate::sequential::SequentialScan;
use crate::smoothing::Smoothing;
use std::borrow::Cow;

/// MCUs whose coefficients are kept when a file is decoded in one go.
const CHUNK: usize = 16;

/// What a file may cost, checked before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest width times height. Default: 178,956,970, where Pillow refuses an image as a decompression bomb.
    pub max_pixels: u64,
    /// Most bytes to allocate for the pixels, the coefficients of progressive files and working rows together (the
    /// entropy-coded data itself, at most the file's length, comes on top). Default: 1 GiB.
    pub max_bytes: u64,
    /// Most scans; each one can cost a pass over all coefficients. Default: 100 (usual are 1 to 15).
    pub max_scans: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_pixels: 178_956_970, max_bytes: 1 << 30, max_scans: 100 }
    }
}

/// A decoded image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// 1 (gray) or 3 (RGB).
    pub channels: usize,
    /// Row-major height x width x channels.
    pub pixels: Vec<u8>,
}

/// What a file says about itself before its image data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Width in pixels, before any orientation is applied.
    pub width: usize,
    /// Height in pixels, before any orientation is applied.
    pub height: usize,
    /// Colour components in the file: 1 (gray), 3 (YCbCr or RGB) or 4 (CMYK or YCCK).
    pub components: usize,
    /// Progressive, not sequential.
    pub progressive: bool,
    /// Exif orientation, 1 to 8, where the file has one. [`decode`] does not apply it.
    pub orientation: Option<u8>,
}

/// Reads the segments before the image data.
///
/// # Errors
/// The file is no JPEG, is cut inside its header, has a broken header or is of an unsupported kind.
pub fn read_header(bytes: &[u8]) -> Result<Header, Error> {
    let mut reader = Reader::new(bytes)?;
    let (frame, _) = first_scan(&mut reader)?;
    Ok(Header {
        width: frame.width,
        height: frame.height,
        components: frame.components.len(),
        progressive: frame.progressive,
        orientation: reader.orientation,
    })
}

/// Decodes a whole file to gray or RGB, CMYK converted as Pillow's `convert("RGB")` does.
///
/// # Errors
/// Everything that [`read_header`] refuses, image data that is cut, and what exceeds `limits`.
pub fn decode(bytes: &[u8], limits: Limits) -> Result<Image, Error> {
    decode_reduced(bytes, limits, Reduction::None)
}

/// As [`decode`], at a fraction of the size: the pixels of libjpeg-turbo's scaled decoding, which Pillow's `draft` asks for.
///
/// # Errors
/// As [`decode`]; `limits` are for the whole image.
pub fn decode_reduced(bytes: &[u8], limits: Limits, reduction: Reduction) -> Result<Image, Error> {
    let mut reader = Reader::new(bytes)?;
    let (mut frame, scan) = first_scan(&mut reader)?;
    let is_single_scan = !frame.progressive && scan.components.len() == frame.components.len();
    check_limits(&frame, is_single_scan, limits)?;
    let colours = Colours::guess(&frame, reader.has_jfif, reader.adobe_transform);
    if !frame.progressive {
        for (index, (dc, ac)) in typical_codes().into_iter().enumerate() {
            reader.tables.dc[index].get_or_insert(dc);
            reader.tables.ac[index].get_or_insert(ac);
        }
    }
    frame.latch_quantisation(&scan, &reader.tables)?;
    let pixels = if is_single_scan {
        let output = Output::new(&frame, colours, reduction);
        decode_single_scan(&mut reader, &frame, &scan, output)?
    } else {
        decode_scans(&mut reader, &mut frame, scan, limits, |frame| Output::new(frame, colours, reduction))?
    };
    let channels = if colours == Colours::Gray { 1 } else { 3 };
    let (width, height) = reduction.size(frame.width, frame.height);
    Ok(Image { width, height, channels, pixels })
}

fn first_scan(reader: &mut Reader) -> Result<(Frame, Scan), Error> {
    let mut frame = None;
    loop {
        match (reader.next()?, frame) {
            (Stop::Frame(new), _) => frame = Some(new),
            (Stop::Scan(header), Some(frame)) => {
                let scan = Scan::parse(header, &frame)?;
                return Ok((frame, scan));
            }
            (Stop::Scan(_), None) => {
                return Err(Error::Malformed { segment: "SOS", reason: "comes before the frame header" });
            }
            (Stop::EndOfData, _) => return Err(Error::Truncated { inside: "the header" }),
            (Stop::EndOfImage, _) => {
                return Err(Error::Malformed { segment: "EOI", reason: "comes before any image data" });
            }
        }
    }
}

fn check_limits(frame: &Frame, is_single_scan: bool, limits: Limits) -> Result<(), Error> {
    let (width, height) = (frame.width, frame.height);
    let pixels = width as u64 * height as u64;
    if pixels > limits.max_pixels {
        return Err(Error::TooManyPixels { width, height, max_pixels: limits.max_pixels });
    }
    let channels = if frame.components.len() == 1 { 1 } else { 3 };
    let coefficient_rows = if is_single_scan { 0 } else { frame.mcu_rows };
    let blocks: usize = frame.components.iter().map(|c| c.stride * c.v * coefficient_rows).sum();
    let bytes = pixels * channels + (blocks * size_of::<Block>()) as u64 + Output::ring_bytes(frame) as u64;
    if bytes > limits.max_bytes {
        return Err(Error::TooMuchMemory { bytes, max_bytes: limits.max_bytes });
    }
    Ok(())
}

/// All components in one sequential scan: pixels are made row by row while it is read.
fn decode_single_scan(
    reader: &mut Reader,
    frame: &Frame,
    scan: &Scan,
    mut output: Output,
) -> Result<Vec<u8>, Error> {
    let mut decoder = SequentialScan::new(frame, scan, &reader.tables)?;
    let (data, position) = reader.position();
    let mut entropy = EntropyData::new(data, position, reader.restart_interval, Vec::new());
    // A few MCUs at a time, so that their coefficients stay in the first-level cache.
    let mut coefs: Vec<Vec<Block>> =
        frame.components.iter().map(|c| vec![[0; 64]; CHUNK * c.h * c.v]).collect();
    // A component alone comes block row by block row, whatever its sampling factors are.
    let (rows, is_alone) = match &frame.components[..] {
        [component] => (component.v, true),
        _ => (1, false),
    };
    for mcu_row in 0..frame.mcu_rows {
        for row in 0..rows.min(decoder.mcu_rows - mcu_row * rows) {
            for column in (0..decoder.mcus_per_row).step_by(CHUNK) {
                let mcus = CHUNK.min(decoder.mcus_per_row - column);
                decoder.decode::<true>(&mut entropy, &mut coefs, CHUNK, (0, 0), mcus)?;
                for (index, (component, blocks)) in frame.components.iter().zip(&coefs).enumerate() {
                    let (across, down) = if is_alone { (1, 1) } else { (component.h, component.v) };
                    for (y, blocks) in blocks.chunks(CHUNK * across).take(down).enumerate() {
                        output.transform(index, row + y, column * across, &blocks[..mcus * across]);
                    }
                }
            }
        }
        output.finish_row();
    }
    let (position, marker, _) = entropy.finish();
    reader.resume(position, marker);
    // The image is complete: a missing end marker does not matter, but broken segments do.
    if let Stop::Scan(_) = reader.next()? {
        return Err(Error::Malformed { segment: "SOS", reason: "scan after the last one" });
    }
    Ok(output.into_pixels())
}

/// Progressive files and those with a scan for each component: all coefficients are collected first.
fn decode_scans(
    reader: &mut Reader,
    frame: &mut Frame,
    first: Scan,
    limits: Limits,
    output: impl FnOnce(&Frame) -> Output,
) -> Result<Vec<u8>, Error> {
    let mut coefs: Vec<Vec<Block>> =
        frame.components.iter().map(|c| vec![[0; 64]; c.stride * c.v * frame.mcu_rows]).collect();
    let mut accuracy = vec![Accuracy::NOTHING; frame.components.len()];
    let mut last_good_row = 0;
    let mut scans = 0;
    let mut buffer = Vec::new();
    let mut scan = first;
    loop {
        scans += 1;
        if scans > limits.max_scans {
            return Err(Error::TooManyScans { max_scans: limits.max_scans });
        }
        frame.latch_quantisation(&scan, &reader.tables)?;
        let (data, position) = reader.position();
        let interval = reader.restart_interval;
        let mut entropy = EntropyData::new(data, position, interval, std::mem::take(&mut buffer));
        if frame.progressive {
            let decoder = ProgressiveScan::new(frame, &scan, scans == 1, &reader.tables, &mut accuracy)?;
            last_good_row = decoder.decode(&mut entropy, &mut coefs)?;
        } else {
            let mut decoder = SequentialScan::new(frame, &scan, &reader.tables)?;
            let (stride, mcus) = (frame.stride_in_mcus(&scan), decoder.mcus_per_row);
            for row in 0..decoder.mcu_rows {
                decoder.decode::<false>(&mut entropy, &mut coefs, stride, (row, 0), mcus)?;
            }
        }
        let (position, marker, used) = entropy.finish();
        buffer = used;
        reader.resume(position, marker);
        scan = match reader.next()? {
            Stop::Scan(header) => Scan::parse(header, frame)?,
            Stop::EndOfImage => break,
            Stop::Frame(_) | Stop::EndOfData => return Err(Error::Truncated { inside: "the scans" }),
        };
    }
    let smoothing =
        if frame.progressive { Smoothing::new(frame, &accuracy, last_good_row, scans == 1) } else { None };
    let mut output = output(frame);
    for mcu_row in 0..frame.mcu_rows {
        for (index, (component, blocks)) in frame.components.iter().zip(&coefs).enumerate() {
            let row = component.stride * component.v;
            let blocks = match &smoothing {
                Some(smoothing) => Cow::Owned(smoothing.smooth_row(index, blocks, mcu_row)),
                None => Cow::Borrowed(&blocks[mcu_row * row..(mcu_row + 1) * row]),
            };
            for (y, blocks) in blocks.chunks_exact(component.stride).enumerate() {
                output.transform(index, y, 0, blocks);
            }
        }
        output.finish_row();
    }
    Ok(output.into_pixels())
}
