//! Options that several commands take, and how values are read.

use clap::{Args, ValueEnum};

/// How photos are read.
#[derive(Args, Clone, Debug)]
pub struct Decoding {
    /// Takes photos as they are stored, not turned as their EXIF orientation says
    #[arg(long)]
    pub no_exif: bool,

    /// Decodes large JPEGs at a half, a quarter or an eighth of their size: quicker, but scores and embeddings are a little off
    #[arg(long)]
    pub fast_decode: bool,

    /// Refuses photos of more megapixels [default: 179]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_megapixels: Option<u32>,
}

/// How the towers compute.
#[derive(Args, Clone, Debug)]
pub struct Computing {
    /// What numbers the towers multiply; bf16 and int8 are about 1.7 and 2.7 times as fast where the processor has instructions
    /// for them (AVX512-BF16, AVX512-VNNI), and gain nothing where it has not
    #[arg(long, value_enum, value_name = "TYPE", default_value = "f32")]
    pub precision: Precision,
}

/// Numbers that are multiplied; sums are f32 in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 32 bits: the reference implementation's embeddings, to 2e-5
    F32,
    /// 16 bits: cosines to these of 0.9995 and more
    Bf16,
    /// 8 bits, sensitive layers in bf16: cosines of 0.995 and more
    Int8,
}

/// Whether embeddings of words are kept for the next time.
#[derive(Args, Clone, Debug)]
pub struct Caching {
    /// Neither reads nor writes the cache of text embeddings (in MOBILECLIP_CACHE, or the user's cache folder)
    #[arg(long)]
    pub no_cache: bool,
}

/// A number of things, at least one.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

/// Height and width of an image: one number for both, or two.
pub fn image_size(text: &str) -> Result<(usize, usize), String> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    Ok((count(height)?, count(width)?))
}

/// A share above 0 and below 1.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        Ok(_) => Err("must be above 0 and below 1".to_owned()),
        Err(error) => Err(format!("{error}")),
    }
}

/// A learning rate.
pub fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        Ok(_) => Err("must be above 0".to_owned()),
        Err(error) => Err(format!("{error}")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn image_sizes_are_one_number_or_two() {
        assert_eq!(super::image_size("256"), Ok((256, 256)));
        assert_eq!(super::image_size("512x384"), Ok((512, 384)));
        for wrong in ["", "x", "256x", "0", "256x0", "-1", "256X256", "1x2x3"] {
            assert!(super::image_size(wrong).is_err(), "{wrong}");
        }
    }
}
