//! Strips and tiles: where they lie in the file and in the image.

use super::directory::{Directory, tag};
use super::unpack::{Compression, decompress, undo_prediction};
use super::{Format, broken, unsupported};
use crate::Error;
use crate::decode::DecodeOptions;

/// How the page is cut into chunks, which are strips or tiles.
pub(super) struct Layout {
    pub width: usize,
    pub height: usize,
    /// Bits of a sample: 1, 2, 4, 8, 16 or 32.
    pub bits: u8,
    pub samples: usize,
    pub chunk_width: usize,
    chunk_height: usize,
    is_tiled: bool,
    /// Each sample in chunks of its own.
    is_planar: bool,
    compression: Compression,
    is_predicted: bool,
    /// The lowest bit of a byte comes first.
    is_reversed: bool,
    offsets: Vec<u64>,
    lengths: Vec<u64>,
}

/// Where a chunk lies in the image.
pub(super) struct Place {
    pub left: usize,
    pub top: usize,
    /// Rows inside the image.
    pub rows: usize,
}

pub(super) enum Chunk {
    /// Rows of [`Layout::row_len`] bytes.
    Samples(Vec<u8>),
    /// Rows of colours, as a JPEG decoder gives them.
    Rgb(Vec<u8>),
}

impl Layout {
    pub(super) fn read(directory: &Directory<'_>, options: &DecodeOptions) -> Result<Layout, Error> {
        let missing = |what: &str| broken(Format::Tiff, format!("no {what}"));
        let width = directory.number(tag::IMAGE_WIDTH).ok_or_else(|| missing("width"))?;
        let height = directory.number(tag::IMAGE_LENGTH).ok_or_else(|| missing("height"))?;
        let (width, height) = options.check_size(Format::Tiff, width, height)?;

        let samples = directory.number(tag::SAMPLES_PER_PIXEL).unwrap_or(1);
        let bits = directory.numbers(tag::BITS_PER_SAMPLE).unwrap_or_else(|| vec![1]);
        let depth = bits.first().copied().unwrap_or(1);
        if !matches!(depth, 1 | 2 | 4 | 8 | 16 | 32)
            || bits.iter().any(|&b| b != depth)
            || !(1..=32).contains(&samples)
        {
            return Err(unsupported(Format::Tiff, format!("{samples} samples of {bits:?} bits")));
        }
        let is_tiled = directory.number(tag::TILE_WIDTH).is_some();
        let (chunk_width, chunk_height) = if is_tiled {
            let tile_width = directory.number(tag::TILE_WIDTH).unwrap_or(0);
            let tile_height = directory.number(tag::TILE_LENGTH).ok_or_else(|| missing("tile height"))?;
            options.check_size(Format::Tiff, tile_width, tile_height)?
        } else {
            let rows = directory.number(tag::ROWS_PER_STRIP).filter(|&rows| rows > 0);
            (width, rows.and_then(|rows| usize::try_from(rows).ok()).unwrap_or(height).min(height))
        };
        let is_planar = samples > 1 && directory.number(tag::PLANAR_CONFIGURATION) == Some(2);
        if is_planar && depth < 8 {
            return Err(unsupported(Format::Tiff, "planes of less than 8 bits"));
        }
        let compression = Compression::read(directory)?;
        let predictor = directory.number(tag::PREDICTOR).unwrap_or(1);
        let is_predicted = compression.can_predict() && predictor != 1;
        if is_predicted && (predictor != 2 || depth < 8) {
            return Err(unsupported(Format::Tiff, format!("predictor {predictor} with {depth} bits")));
        }
        let (at, len) = if is_tiled {
            (tag::TILE_OFFSETS, tag::TILE_BYTE_COUNTS)
        } else {
            (tag::STRIP_OFFSETS, tag::STRIP_BYTE_COUNTS)
        };
        let offsets = directory.numbers(at).ok_or_else(|| missing("offsets of the pixels"))?;
        // Some writers forget the lengths of what is not compressed: as long as the file, then.
        let lengths = directory.numbers(len).unwrap_or_else(|| vec![u64::MAX; offsets.len()]);
        let small = |v: u64| u8::try_from(v).unwrap_or(u8::MAX);
        let layout = Layout {
            width,
            height,
            bits: small(depth),
            samples: usize::from(small(samples)),
            chunk_width,
            chunk_height,
            is_tiled,
            is_planar,
            compression,
            is_predicted,
            is_reversed: directory.number(tag::FILL_ORDER) == Some(2),
            offsets,
            lengths,
        };
        let chunks = layout.chunks() * if is_planar { layout.samples } else { 1 };
        if layout.offsets.len() < chunks || layout.lengths.len() < chunks {
            return Err(broken(
                Format::Tiff,
                format!("{chunks} strips or tiles, but {} offsets", layout.offsets.len()),
            ));
        }
        Ok(layout)
    }

    pub(super) fn is_jpeg(&self) -> bool {
        matches!(self.compression, Compression::Jpeg)
    }

    fn across(&self) -> usize {
        self.width.div_ceil(self.chunk_width)
    }

    /// Chunks that cover the image.
    pub(super) fn chunks(&self) -> usize {
        self.across() * self.height.div_ceil(self.chunk_height)
    }

    pub(super) fn place(&self, index: usize) -> Place {
        let (x, y) = (index % self.across(), index / self.across());
        let top = y * self.chunk_height;
        Place { left: x * self.chunk_width, top, rows: self.chunk_height.min(self.height - top) }
    }

    /// Bytes in a row of a chunk with all samples.
    pub(super) fn row_len(&self) -> usize {
        (self.chunk_width * self.samples * usize::from(self.bits)).div_ceil(8)
    }

    /// The samples of chunk `index`, those of a pixel side by side.
    pub(super) fn read_chunk(&self, directory: &Directory<'_>, index: usize) -> Result<Chunk, Error> {
        if !self.is_planar {
            return self.read_part(directory, index, self.samples);
        }
        let sample_len = usize::from(self.bits / 8);
        let mut planes = Vec::with_capacity(self.samples);
        for sample in 0..self.samples {
            match self.read_part(directory, index + sample * self.chunks(), 1)? {
                Chunk::Samples(plane) => planes.push(plane),
                Chunk::Rgb(_) => return Err(unsupported(Format::Tiff, "JPEG in planes")),
            }
        }
        let plane_len = planes.first().map_or(0, Vec::len);
        let mut mixed = Vec::with_capacity(plane_len * self.samples);
        for at in (0..plane_len).step_by(sample_len) {
            for plane in &planes {
                mixed.extend_from_slice(plane.get(at..at + sample_len).unwrap_or(&[]));
            }
        }
        Ok(Chunk::Samples(mixed))
    }

    /// The `samples` samples of each pixel that chunk `index` of the file holds.
    fn read_part(&self, directory: &Directory<'_>, index: usize, samples: usize) -> Result<Chunk, Error> {
        let number =
            |list: &[u64]| list.get(index).and_then(|&v| usize::try_from(v).ok()).unwrap_or(usize::MAX);
        let (at, len) = (number(&self.offsets), number(&self.lengths));
        let data =
            directory.file().get(at..).ok_or_else(|| broken(Format::Tiff, "pixels outside the file"))?;
        let data = data.get(..len).unwrap_or(data);
        // A tile is stored whole, the last strip is not.
        let rows = if self.is_tiled { self.chunk_height } else { self.place(index % self.chunks()).rows };
        if self.is_jpeg() {
            return super::unpack::jpeg(directory, data, (self.chunk_width, rows), self.samples)
                .map(Chunk::Rgb);
        }
        let row_len = (self.chunk_width * samples * usize::from(self.bits)).div_ceil(8);
        let reversed: Vec<u8>;
        let data = if self.is_reversed {
            reversed = data.iter().map(|b| b.reverse_bits()).collect();
            &reversed
        } else {
            data
        };
        let mut unpacked = decompress(&self.compression, data, row_len * rows)?;
        if self.is_predicted {
            for row in unpacked.chunks_exact_mut(row_len) {
                undo_prediction(row, samples, self.bits, directory.is_little_endian());
            }
        }
        Ok(Chunk::Samples(unpacked))
    }
}
