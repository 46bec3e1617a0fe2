//! `preprocess_cfg` as it stands in a checkpoint's `open_clip_config.json`.

use serde::{Deserialize, Deserializer, Serialize, de};

use super::{Preprocess, ResizeMode};
use crate::Filter;

/// The fields that a configuration sets; those it leaves out (or sets to null) stay as they were. Unknown fields are ignored, as
/// open_clip does it.
///
/// ```
/// use mobileclip_image::{Filter, Preprocess, PreprocessCfg};
/// let cfg: PreprocessCfg = serde_json::from_str(r#"{"size": 256, "interpolation": "bilinear", "mean": 0.5}"#)?;
/// let preprocess = Preprocess::default().with(&cfg);
/// assert_eq!((preprocess.size, preprocess.mean), ((256, 256), [0.5; 3]));
/// assert_eq!(preprocess.interpolation, Filter::Bilinear);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PreprocessCfg {
    /// Height and width; also one number for both.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "size")]
    pub size: Option<(usize, usize)>,
    /// The colour mode; open_clip knows `RGB` alone.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "mode")]
    pub mode: Option<String>,
    /// Mean of each channel; also one number for all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "channels")]
    pub mean: Option<[f32; 3]>,
    /// Standard deviation of each channel; also one number for all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "channels")]
    pub std: Option<[f32; 3]>,
    /// The filter of the resize.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<Filter>,
    /// How a photo comes to the size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize_mode: Option<ResizeMode>,
    /// What surrounds a photo in [`ResizeMode::Longest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill_color: Option<u8>,
}

impl Preprocess {
    /// This preprocessing with the fields that `cfg` sets.
    pub fn with(self, cfg: &PreprocessCfg) -> Preprocess {
        Preprocess {
            size: cfg.size.unwrap_or(self.size),
            resize_mode: cfg.resize_mode.unwrap_or(self.resize_mode),
            interpolation: cfg.interpolation.unwrap_or(self.interpolation),
            mean: cfg.mean.unwrap_or(self.mean),
            std: cfg.std.unwrap_or(self.std),
            fill_color: cfg.fill_color.unwrap_or(self.fill_color),
            pass_order: self.pass_order,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<(usize, usize)>, D::Error> {
    Ok(match Option::<OneOrMany<usize>>::deserialize(deserializer)? {
        None => None,
        Some(OneOrMany::One(side)) => Some((side, side)),
        Some(OneOrMany::Many(sides)) => match sides[..] {
            [side] => Some((side, side)),
            [height, width] => Some((height, width)),
            _ => return Err(de::Error::invalid_length(sides.len(), &"one side, or height and width")),
        },
    })
}

fn channels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[f32; 3]>, D::Error> {
    Ok(match Option::<OneOrMany<f32>>::deserialize(deserializer)? {
        None => None,
        Some(OneOrMany::One(value)) => Some([value; 3]),
        Some(OneOrMany::Many(values)) => match values[..] {
            [r, g, b] => Some([r, g, b]),
            _ => return Err(de::Error::invalid_length(values.len(), &"a number for each of 3 channels")),
        },
    })
}

fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let mode = Option::<String>::deserialize(deserializer)?;
    match mode.as_deref() {
        None | Some("RGB") => Ok(mode),
        Some(other) => Err(de::Error::invalid_value(de::Unexpected::Str(other), &"the mode `RGB`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_hub_has() {
        let text = r#"{"size":[224,256],"mode":"RGB","mean":[0.48145466,0.4578275,0.40821073],
            "std":[0.26862954,0.26130258,0.27577711],"interpolation":"random","resize_mode":"squash","fill_color":0,
            "something_new":[1]}"#;
        let cfg: PreprocessCfg = serde_json::from_str(text).unwrap();
        let expected =
            Preprocess { size: (224, 256), resize_mode: ResizeMode::Squash, ..Preprocess::default() };
        assert_eq!(Preprocess::default().with(&cfg), expected);
        assert_eq!(
            serde_json::from_str::<PreprocessCfg>(&serde_json::to_string(&cfg).unwrap()).unwrap(),
            cfg
        );
    }

    #[test]
    fn nulls_and_gaps_change_nothing() {
        let cfg: PreprocessCfg = serde_json::from_str(r#"{"size":null,"mean":null}"#).unwrap();
        assert_eq!(Preprocess::default().with(&cfg), Preprocess::default());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            r#"{"size":[1,2,3]}"#,
            r#"{"size":-1}"#,
            r#"{"mean":[1.0]}"#,
            r#"{"mode":"L"}"#,
            r#"{"resize_mode":"wide"}"#,
            r#"{"interpolation":"cubic"}"#,
            r#"{"fill_color":300}"#,
        ] {
            assert!(serde_json::from_str::<PreprocessCfg>(text).is_err(), "{text}");
        }
    }
}
