//! Many sets with one number each, and their average.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};

/// The tasks of DataComp whose average the papers print: key and name (`golden/eval/datacomp_keys.tsv` holds what was found in the
/// published files). FairFace and UTKFace have no main metric and do not count.
const AVERAGE_38: [(&str, &str); 38] = [
    ("vtab/caltech101", "Caltech-101"),
    ("cifar10", "CIFAR-10"),
    ("vtab/cifar100", "CIFAR-100"),
    ("vtab/clevr_count_all", "CLEVR Counts"),
    ("vtab/clevr_closest_object_distance", "CLEVR Distance"),
    ("country211", "Country211"),
    ("vtab/dtd", "Describable Textures"),
    ("vtab/eurosat", "EuroSAT"),
    ("fgvc_aircraft", "FGVC Aircraft"),
    ("food101", "Food-101"),
    ("gtsrb", "GTSRB"),
    ("imagenet1k", "ImageNet 1k"),
    ("imagenet_sketch", "ImageNet Sketch"),
    ("imagenetv2", "ImageNet v2"),
    ("imagenet-a", "ImageNet-A"),
    ("imagenet-o", "ImageNet-O"),
    ("imagenet-r", "ImageNet-R"),
    ("vtab/kitti_closest_vehicle_distance", "KITTI Vehicle Distance"),
    ("mnist", "MNIST"),
    ("objectnet", "ObjectNet"),
    ("vtab/flowers", "Oxford Flowers-102"),
    ("vtab/pets", "Oxford-IIIT Pet"),
    ("voc2007", "Pascal VOC 2007"),
    ("vtab/pcam", "PatchCamelyon"),
    ("renderedsst2", "Rendered SST2"),
    ("vtab/resisc45", "RESISC45"),
    ("cars", "Stanford Cars"),
    ("stl10", "STL-10"),
    ("sun397", "SUN397"),
    ("vtab/svhn", "SVHN"),
    ("retrieval/flickr_1k_test_image_text_retrieval", "Flickr"),
    ("retrieval/mscoco_2014_5k_test_image_text_retrieval", "MSCOCO"),
    ("misc/winogavil", "WinoGAViL"),
    ("wilds/iwildcam", "iWildCam"),
    ("wilds/camelyon17", "Camelyon17"),
    ("wilds/fmow", "FMoW"),
    ("fairness/dollar_street", "Dollar Street"),
    ("fairness/geode", "GeoDE"),
];

/// A list of sets, read from TOML:
///
/// ```toml
/// name = "mine"
///
/// [[set]]
/// path = "data/cifar10-test"   # relative to the file
/// name = "CIFAR-10"            # for people; the folder's name if it is not given
/// key = "cifar10"              # DataComp's key; the name if it is not given
/// metric = "acc1"              # the number that counts; by the task if it is not given
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// The sets.
    #[serde(rename = "set")]
    pub sets: Vec<SuiteSet>,
}

/// One set of a [`Suite`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteSet {
    /// The set's folder.
    pub path: PathBuf,
    /// Its name for people.
    #[serde(default)]
    pub name: String,
    /// DataComp's key.
    #[serde(default)]
    pub key: String,
    /// The metric that counts.
    pub metric: Option<String>,
}

impl Suite {
    /// Reads a suite. Paths become relative to the file, names and keys are filled in.
    ///
    /// # Errors
    /// If the file cannot be read or is no suite.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let mut suite: Self = toml::from_str(&text)
            .map_err(|error| Error::Layout { path: path.to_path_buf(), reason: error.to_string() })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        suite.sets.iter_mut().for_each(|set| *set = SuiteSet::filled(folder.join(&set.path), set));
        Ok(suite)
    }
}

impl SuiteSet {
    /// A set of its own, without a suite.
    pub fn of(path: &Path) -> Self {
        let empty = Self { path: PathBuf::new(), name: String::new(), key: String::new(), metric: None };
        Self::filled(path.to_path_buf(), &empty)
    }

    fn filled(path: PathBuf, given: &Self) -> Self {
        let folder = path.canonicalize().unwrap_or_else(|_| path.clone());
        let folder = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = if given.name.is_empty() { folder } else { given.name.clone() };
        let key = if given.key.is_empty() { name.clone() } else { given.key.clone() };
        Self { path, name, key, metric: given.metric.clone() }
    }
}

/// The plain mean of the sets' main metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Average {
    /// The mean; `None` of nothing.
    pub value: Option<f64>,
    /// How many sets it is of.
    pub counted: usize,
    /// The names of those that have no number.
    pub without_number: Vec<String>,
    /// If all sets are DataComp's: the names of those of the papers' 38 that are missing.
    pub missing_of_38: Option<Vec<&'static str>>,
}

impl Average {
    /// Of `(key, name, main metric)`.
    ///
    /// Where keys are DataComp's, it is the papers' average over 38 data sets, as far as they are there: other keys (`comp/…`, `longclip/…`)
    /// are left out. Where no key is, all sets count.
    pub fn of<'a>(sets: impl IntoIterator<Item = (&'a str, &'a str, Option<f64>)>) -> Self {
        let sets: Vec<_> = sets.into_iter().collect();
        let known: BTreeMap<&str, &'static str> = AVERAGE_38.into_iter().collect();
        let is_datacomp = sets.iter().any(|(key, ..)| known.contains_key(canonical(key)));
        let counts = |key: &&str| !is_datacomp || known.contains_key(canonical(key));
        let counted: Vec<_> = sets.iter().filter(|(key, ..)| counts(key)).collect();
        let numbers: Vec<f64> = counted.iter().filter_map(|(_, _, value)| *value).collect();
        let without_number =
            counted.iter().filter(|(_, _, value)| value.is_none()).map(|(_, name, _)| (*name).to_owned());
        let is_there =
            |key: &str| sets.iter().any(|(other, _, value)| canonical(other) == key && value.is_some());
        let missing = AVERAGE_38.iter().filter(|(key, _)| !is_there(key)).map(|(_, name)| *name).collect();
        Self {
            value: (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64),
            counted: numbers.len(),
            without_number: without_number.collect(),
            missing_of_38: is_datacomp.then_some(missing),
        }
    }
}

/// The key under which the published files have a task.
fn canonical(key: &str) -> &str {
    match key {
        // The name in newer task lists.
        "retrieval/flickr30k" => "retrieval/flickr_1k_test_image_text_retrieval",
        key => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_is_read_and_filled_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("suite.toml");
        let text = "name = \"mine\"\n[[set]]\npath = \"a/cars\"\n[[set]]\npath = \"/x\"\nname = \"X\"\nkey = \"k\"\nmetric = \"acc5\"\n";
        std::fs::write(&path, text).unwrap();
        let suite = Suite::read(&path).unwrap();
        assert_eq!(suite.sets[0].path, folder.path().join("a/cars"));
        assert_eq!((suite.sets[0].name.as_str(), suite.sets[0].key.as_str()), ("cars", "cars"));
        assert_eq!((suite.sets[1].name.as_str(), suite.sets[1].key.as_str()), ("X", "k"));
        assert_eq!(suite.sets[1].metric.as_deref(), Some("acc5"));
        std::fs::write(&path, "name = \"mine\"\n[[set]]\npath = \"a\"\nmetrik = \"acc1\"\n").unwrap();
        assert!(Suite::read(&path).unwrap_err().to_string().contains("metrik"));
    }

    #[test]
    fn averages_count_what_counts() {
        let own = Average::of([("a", "A", Some(0.2)), ("b", "B", None), ("c", "C", Some(0.4))]);
        assert!((own.value.unwrap() - 0.3).abs() < 1e-12);
        assert_eq!((own.counted, own.without_number, own.missing_of_38), (2, vec!["B".to_owned()], None));
        let datacomp =
            Average::of([("cifar10", "CIFAR-10", Some(0.5)), ("comp/sugarcrepe_swap_obj", "S", Some(0.9))]);
        assert_eq!((datacomp.value, datacomp.counted), (Some(0.5), 1));
        let missing = datacomp.missing_of_38.unwrap();
        assert!(missing.len() == 37 && !missing.contains(&"CIFAR-10"), "{missing:?}");
        assert_eq!(Average::of([]).value, None);
    }
}
