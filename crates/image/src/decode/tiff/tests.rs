//! Files made here: the pixels are numbered, so a misplaced strip or tile shows.

use std::io::Write;

use super::*;

struct Maker {
    is_little_endian: bool,
    tags: Vec<(u16, Vec<u32>)>,
    chunks: Vec<Vec<u8>>,
    is_tiled: bool,
}

impl Maker {
    fn new(width: u32, height: u32, bits: u32, samples: u32, photometric: u32) -> Maker {
        let tags = vec![
            (tag::IMAGE_WIDTH, vec![width]),
            (tag::IMAGE_LENGTH, vec![height]),
            (tag::BITS_PER_SAMPLE, vec![bits; samples as usize]),
            (tag::PHOTOMETRIC, vec![photometric]),
            (tag::SAMPLES_PER_PIXEL, vec![samples]),
        ];
        Maker { is_little_endian: true, tags, chunks: Vec::new(), is_tiled: false }
    }

    fn tag(mut self, tag: u16, values: &[u32]) -> Maker {
        self.tags.push((tag, values.to_vec()));
        self
    }

    fn chunks(mut self, chunks: &[&[u8]]) -> Maker {
        self.chunks = chunks.iter().map(|c| c.to_vec()).collect();
        self
    }

    fn tiled(self, width: u32, height: u32) -> Maker {
        Maker { is_tiled: true, ..self.tag(tag::TILE_WIDTH, &[width]).tag(tag::TILE_LENGTH, &[height]) }
    }

    /// Header, chunks, long values, directory; every value is a LONG.
    fn file(&self) -> Vec<u8> {
        let long = |v: u32| if self.is_little_endian { v.to_le_bytes() } else { v.to_be_bytes() };
        let short = |v: u16| if self.is_little_endian { v.to_le_bytes() } else { v.to_be_bytes() };
        let mut file =
            if self.is_little_endian { b"II*\0\0\0\0\0".to_vec() } else { b"MM\0*\0\0\0\0".to_vec() };
        let mut offsets = Vec::new();
        for chunk in &self.chunks {
            offsets.push(file.len() as u32);
            file.extend(chunk);
        }
        let lengths = self.chunks.iter().map(|c| c.len() as u32).collect();
        let (at, len) = if self.is_tiled {
            (tag::TILE_OFFSETS, tag::TILE_BYTE_COUNTS)
        } else {
            (tag::STRIP_OFFSETS, tag::STRIP_BYTE_COUNTS)
        };
        let mut tags = self.tags.clone();
        tags.extend([(at, offsets), (len, lengths)]);
        let mut directory = short(tags.len() as u16).to_vec();
        for (tag, values) in &tags {
            directory.extend(short(*tag));
            directory.extend(short(4));
            directory.extend(long(values.len() as u32));
            if let [value] = values[..] {
                directory.extend(long(value));
            } else {
                directory.extend(long(file.len() as u32));
                file.extend(values.iter().flat_map(|&v| long(v)));
            }
        }
        let start = long(file.len() as u32);
        file[4..8].copy_from_slice(&start);
        file.extend(directory);
        file
    }

    fn decode(&self) -> Result<RgbImage, Error> {
        super::decode(&self.file(), &DecodeOptions::default()).map(|d| d.image)
    }

    /// The first channel.
    fn reds(&self) -> Vec<u8> {
        self.decode().unwrap().pixels().iter().step_by(3).copied().collect()
    }
}

fn grey(width: u32, height: u32) -> Maker {
    Maker::new(width, height, 8, 1, 1)
}

fn deflated(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn strips_and_tiles_land_where_they_belong() {
    let strips = grey(3, 3).tag(tag::ROWS_PER_STRIP, &[2]).chunks(&[&[1, 2, 3, 4, 5, 6], &[7, 8, 9]]);
    assert_eq!(strips.reds(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let tiles = grey(3, 3).tiled(2, 2).chunks(&[&[1, 2, 4, 5], &[3, 0, 6, 0], &[7, 8, 0, 0], &[9, 0, 0, 0]]);
    assert_eq!(tiles.reds(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn planes_are_put_together() {
    let planes =
        Maker::new(2, 2, 8, 3, 2).tag(tag::PLANAR_CONFIGURATION, &[2]).tag(tag::ROWS_PER_STRIP, &[1]);
    let planes = planes.chunks(&[&[1, 4], &[7, 10], &[2, 5], &[8, 11], &[3, 6], &[9, 12]]);
    assert_eq!(planes.decode().unwrap().pixels(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
}

#[test]
fn every_compression_gives_the_same() {
    let data: Vec<u8> = (0..200).map(|i| (i / 7) as u8).collect();
    let lzw = weezl::encode::Encoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8).encode(&data).unwrap();
    let packed: Vec<u8> = data.chunks(100).flat_map(|c| [&[99], c].concat()).collect();
    for (compression, packed) in [(1, data.clone()), (5, lzw.clone()), (8, deflated(&data)), (32773, packed)]
    {
        let file = grey(20, 10).tag(tag::COMPRESSION, &[compression]).chunks(&[&packed]);
        assert_eq!(file.reds(), data, "compression {compression}");
        let cut = grey(20, 10).tag(tag::COMPRESSION, &[compression]).chunks(&[&packed[..packed.len() / 2]]);
        assert!(matches!(cut.decode(), Err(Error::Broken { .. })), "compression {compression}");
    }
    // Without the end mark.
    let file = grey(20, 10).tag(tag::COMPRESSION, &[5]).chunks(&[&lzw[..lzw.len() - 1]]);
    assert_eq!(file.reds(), data);
    // Runs: 1 - n copies of one byte; -128 means nothing.
    let file = grey(4, 1).tag(tag::COMPRESSION, &[32773]).chunks(&[&[128, 254, 9, 0, 5]]);
    assert_eq!(file.reds(), [9, 9, 9, 5]);
}

#[test]
fn differences_are_added_up() {
    let file = Maker::new(2, 2, 8, 3, 2).tag(tag::COMPRESSION, &[8]).tag(tag::PREDICTOR, &[2]);
    let file = file.chunks(&[&deflated(&[1, 2, 3, 255, 1, 1, 9, 9, 9, 1, 1, 1])]);
    assert_eq!(file.decode().unwrap().pixels(), [1, 2, 3, 0, 3, 4, 9, 9, 9, 10, 10, 10]);
    // 0x01ff + 0x0001 = 0x0200: the carry reaches the high byte, in both orders.
    for (is_little_endian, data) in [(true, [0xff, 1, 1, 0]), (false, [1, 0xff, 0, 1])] {
        let file = Maker::new(2, 1, 16, 1, 1).tag(tag::COMPRESSION, &[8]).tag(tag::PREDICTOR, &[2]);
        let file = Maker { is_little_endian, ..file.chunks(&[&deflated(&data)]) };
        assert_eq!(file.reds(), [1, 2]);
    }
}

#[test]
fn samples_mean_what_the_directory_says() {
    let map: Vec<u32> = [0x1200, 0x3400, 0, 0, 0x5600, 0x7800, 0, 0, 0x9a00, 0xbc00, 0, 0].to_vec();
    let file = Maker::new(2, 1, 2, 1, 3).tag(tag::COLOR_MAP, &map).chunks(&[&[0b0100_0000]]);
    assert_eq!(file.decode().unwrap().pixels(), [0x34, 0x78, 0xbc, 0x12, 0x56, 0x9a]);
    assert_eq!(Maker::new(2, 1, 4, 1, 0).chunks(&[&[0x0f]]).reds(), [255, 0]);
    assert_eq!(
        Maker::new(3, 1, 1, 1, 0).tag(tag::FILL_ORDER, &[2]).chunks(&[&[0b0000_0010]]).reds(),
        [255, 0, 255]
    );
    let signed = Maker::new(2, 1, 16, 1, 1).tag(tag::SAMPLE_FORMAT, &[2]).chunks(&[&[0xff, 0xff, 0x2c, 1]]);
    assert_eq!(signed.reds(), [0, 255]);
    let float = Maker::new(2, 1, 32, 1, 1).tag(tag::SAMPLE_FORMAT, &[3]);
    assert_eq!(float.chunks(&[&[99.9f32.to_le_bytes(), f32::NAN.to_le_bytes()].concat()]).reds(), [99, 0]);
    let associated = Maker::new(1, 1, 8, 4, 2).tag(tag::EXTRA_SAMPLES, &[1]).chunks(&[&[10, 100, 200, 100]]);
    assert_eq!(associated.decode().unwrap().pixels(), [25, 255, 255]);
    assert_eq!(
        Maker::new(1, 1, 8, 4, 5).chunks(&[&[255, 0, 128, 0]]).decode().unwrap().pixels(),
        [0, 255, 127]
    );
}

#[test]
fn the_orientation_is_reported() {
    let file = grey(1, 1).tag(tag::ORIENTATION, &[6]).chunks(&[&[1]]).file();
    assert_eq!(super::decode(&file, &DecodeOptions::default()).unwrap().orientation, 6);
}

#[test]
fn what_cannot_be_is_an_error() {
    let errors = [
        grey(0, 1).chunks(&[&[1]]),
        grey(u32::MAX, u32::MAX).chunks(&[&[1]]),
        grey(2, 2).tag(tag::ROWS_PER_STRIP, &[1]).chunks(&[&[1, 2]]),
        grey(2, 2).tiled(0, 2).chunks(&[&[1, 2]]),
        grey(2, 2).tiled(u32::MAX, 2).chunks(&[&[1, 2]]),
        grey(2, 2).chunks(&[&[1, 2, 3]]).tag(tag::COMPRESSION, &[8]),
        grey(2, 2).chunks(&[&[1, 2, 3, 4]]).tag(tag::COMPRESSION, &[4]),
        grey(2, 2).chunks(&[&[1, 2, 3, 4]]).tag(tag::COMPRESSION, &[7]),
        Maker::new(2, 2, 8, 1, 3).chunks(&[&[1, 2, 3, 4]]),
        Maker::new(1, 1, 12, 1, 1).chunks(&[&[1, 2]]),
        Maker::new(1, 1, 8, 1000, 1).chunks(&[&[1, 2]]),
    ];
    for (i, file) in errors.iter().enumerate() {
        assert!(file.decode().is_err(), "case {i}");
    }
}

#[test]
fn cut_files_are_errors() {
    let file = grey(3, 3).tag(tag::ROWS_PER_STRIP, &[2]).chunks(&[&[1, 2, 3, 4, 5, 6], &[7, 8, 9]]).file();
    for len in 0..file.len() {
        // The directory stands at the end.
        assert!(super::decode(&file[..len], &DecodeOptions::default()).is_err(), "{len} bytes");
    }
}
