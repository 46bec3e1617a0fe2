//! A sample as the fields of one object, which is what JSON lines and TFRecord store: the published generator's names.

use std::io;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::error::{Fault, Result};
use crate::limits::Limits;
use crate::matrix::Matrix;
use crate::reinforced::{ArrayType, array_member, arrays};
use crate::sample::{Member, PICTURES, Sample};
use crate::{name, pickled};

/// Fields that hold the key of a sample, where it is not made of the uid; the picture; and members that no field stands for, by suffix, as base64.
const KEY: &str = "__key__";
const IMAGE: &str = "image";
const MEMBERS: &str = "members";
/// Fields of the true caption; the first that is there counts.
const CAPTIONS: [&str; 3] = ["text", "caption", "texts"];
const PARAMETERS: &str = "param_aug";
/// Bytes of a key that is made of a uid.
const KEY_BYTES: usize = 200;

/// Whether a field holds embeddings. (The published generator takes every name with `emb` in it for one, `december` too.)
fn is_embedding(field: &str) -> bool {
    field.contains("_emb") && ["image", "text", "syn_text"].iter().any(|start| field.starts_with(start))
}

/// Whether a field is a set of synthetic captions.
fn is_set(field: &str) -> bool {
    field.starts_with("syn_text") && !field.contains("_emb")
}

/// An object of a shard, on its way to a sample.
pub(crate) struct Fields {
    pub object: Map<String, Value>,
    /// The picture, where it is not in the object.
    pub image: Option<Vec<u8>>,
    /// The place in the shard, from 0: the key of samples that have no uid.
    pub number: usize,
}

impl Fields {
    /// The sample.
    ///
    /// # Errors
    /// If a field that is known holds something else.
    pub(crate) fn sample(self, shard: &Arc<Path>, limits: &Limits) -> Result<Sample, Fault> {
        let Fields { mut object, image, number } = self;
        let key = key(&mut object, number);
        let bad = |field: &str, reason: String| Fault::Member {
            shard: shard.to_path_buf(),
            key: key.clone(),
            member: field.to_owned(),
            reason,
        };
        let mut members = Vec::new();
        let mut add =
            |suffix: &str, bytes: Vec<u8>| members.push(Member { suffix: suffix.to_owned(), bytes });
        let coded = object.remove(IMAGE).filter(|value| !value.is_null());
        if let Some(picture) = match (image, coded) {
            (Some(image), _) => Some(image),
            (None, Some(coded)) => Some(decode(&coded).map_err(|reason| bad(IMAGE, reason))?),
            (None, None) => None,
        } {
            add(suffix(&picture), picture);
        }
        if let Some(Value::String(text)) = object.remove("url") {
            add("url.txt", text.into_bytes());
        }
        let caption = CAPTIONS.iter().find(|field| object.get(**field).is_some_and(|value| !value.is_null()));
        match caption.and_then(|field| Some((*field, object.get(*field)?.clone()))) {
            None => {}
            Some((field, Value::String(text))) => {
                object.remove(field);
                add("txt", text.into_bytes());
            }
            // Of several the list stays, to be found as `json:FIELD`.
            Some((field, Value::Array(texts))) => {
                let texts: Option<Vec<&str>> = texts.iter().map(Value::as_str).collect();
                match texts.as_deref() {
                    Some([first, rest @ ..]) => {
                        add("txt", first.as_bytes().to_vec());
                        if rest.is_empty() {
                            object.remove(field);
                        }
                    }
                    _ => return Err(bad(field, "is no list of texts".to_owned())),
                }
            }
            Some((field, _)) => return Err(bad(field, "is neither a text nor a list of texts".to_owned())),
        }
        let mut take = |is_wanted: fn(&str) -> bool| -> Vec<(String, Value)> {
            let names: Vec<String> = object.keys().filter(|field| is_wanted(field)).cloned().collect();
            names.into_iter().filter_map(|name| object.remove_entry(&name)).collect()
        };
        let mut sets = Map::new();
        for (name, captions) in take(is_set) {
            let list = match captions {
                Value::String(text) => vec![Value::String(text)],
                Value::Array(list) if list.iter().all(Value::is_string) => list,
                _ => return Err(bad(&name, "is no list of texts".to_owned())),
            };
            sets.insert(name, list.into());
        }
        let embeddings = take(is_embedding);
        let parameters = take(|field| field == PARAMETERS).pop();
        if !sets.is_empty() || !embeddings.is_empty() || parameters.is_some() {
            add("syn.json", Value::Object(sets).to_string().into_bytes());
        }
        if let Some((_, parameters)) = parameters {
            add("paug.json", json!({ PARAMETERS: parameters }).to_string().into_bytes());
        }
        if !embeddings.is_empty() {
            let mut arrays = Vec::new();
            for (name, value) in &embeddings {
                let matrix = embedding(value, limits).map_err(|reason| bad(name, reason))?;
                arrays.push((name.as_str(), matrix));
            }
            let arrays: Vec<(&str, &Matrix)> = arrays.iter().map(|(name, matrix)| (*name, matrix)).collect();
            let member = array_member(&arrays, ArrayType::F32);
            let member = member.map_err(|error| bad("image_emb", error.to_string()))?;
            add(&member.suffix, member.bytes);
        }
        let more = take(|field| field == MEMBERS).pop();
        if !object.is_empty() {
            add("json", Value::Object(object).to_string().into_bytes());
        }
        let mut sample = Sample::new(Arc::clone(shard), key.clone(), members);
        if let Some((_, more)) = more {
            let more = more.as_object().ok_or_else(|| bad(MEMBERS, "is no object".to_owned()))?;
            let decoded = more.iter().map(|(suffix, value)| {
                let bytes = decode(value).map_err(|reason| bad(MEMBERS, format!("`{suffix}`: {reason}")))?;
                Ok(Member { suffix: suffix.to_lowercase(), bytes })
            });
            sample = sample.with(decoded.collect::<Result<_, Fault>>()?);
        }
        Ok(sample)
    }
}

/// The key of a sample: what the uid says, in letters that a file's name may have.
fn key(object: &mut Map<String, Value>, number: usize) -> String {
    if let Some(Value::String(key)) = object.remove(KEY)
        && name::split(&format!("{key}.x")).is_some_and(|(split, _)| split == key)
    {
        return key;
    }
    let uid = ["uid", "id"].iter().find_map(|field| object.get(*field)).and_then(|uid| match uid {
        Value::String(uid) => Some(uid.clone()),
        Value::Number(uid) => Some(uid.to_string()),
        _ => None,
    });
    match uid.map(|uid| name_of(&uid)).filter(|key| !key.is_empty()) {
        Some(key) => key,
        None => format!("{number:08}"),
    }
}

fn name_of(uid: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    uid.chars().map(plain).take(KEY_BYTES).collect()
}

fn decode(value: &Value) -> Result<Vec<u8>, String> {
    let text = value.as_str().ok_or("is no text of base64")?;
    STANDARD.decode(text.trim_end()).map_err(|error| format!("base64: {error}"))
}

/// What a picture's file is called, by its first bytes.
fn suffix(picture: &[u8]) -> &'static str {
    match picture {
        [0x89, b'P', b'N', b'G', ..] => "png",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "webp",
        _ => "jpg",
    }
}

/// Rows: a packed array, a list of lists, or one row.
#[allow(clippy::cast_possible_truncation)] // Rounding to f32 is the purpose.
fn embedding(value: &Value, limits: &Limits) -> Result<Matrix, String> {
    let row = |row: &Vec<Value>| -> Option<Vec<f32>> {
        row.iter().map(|number| number.as_f64().map(|number| number as f32)).collect()
    };
    let expected = "is neither a packed array nor rows of numbers";
    let rows: Vec<Vec<f32>> = match value {
        Value::String(text) => return pickled::read(text, limits.array_bytes),
        Value::Array(list) if list.iter().all(Value::is_array) => {
            list.iter().filter_map(Value::as_array).map(row).collect::<Option<_>>().ok_or(expected)?
        }
        Value::Array(list) => vec![row(list).ok_or(expected)?],
        _ => return Err(expected.to_owned()),
    };
    let columns = rows.first().map_or(0, Vec::len);
    if rows.iter().any(|row| row.len() != columns) {
        return Err("its rows have different lengths".to_owned());
    }
    Matrix::new(rows.len(), columns, rows.concat()).ok_or_else(|| expected.to_owned())
}

/// A sample as an object, from which [`Fields::sample`] makes one of the same members. (Of embeddings the numbers stay, f32; a
/// `json` gets the uid that the key is.)
///
/// # Errors
/// If an array is too large for its form.
pub(crate) fn object(sample: &Sample) -> io::Result<Map<String, Value>> {
    let mut object = Map::new();
    let mut members = Map::new();
    let text = |suffix: &str| sample.utf8(suffix).ok().map(|text| Value::String(text.to_owned()));
    // A `jpeg` comes back as `jpg`.
    let is_picture = |suffix: &str, bytes: &[u8]| self::suffix(bytes) == suffix.replace("jpeg", "jpg");
    let picture =
        PICTURES.iter().find(|suffix| sample.get(suffix).is_some_and(|bytes| is_picture(suffix, bytes)));
    for member in sample.members() {
        let fields = match member.suffix.as_str() {
            suffix if picture == Some(&suffix) => {
                Some(Map::from_iter([(IMAGE.to_owned(), STANDARD.encode(&member.bytes).into())]))
            }
            "txt" => text("txt").map(|text| Map::from_iter([("text".to_owned(), text)])),
            "url.txt" => text("url.txt").map(|text| Map::from_iter([("url".to_owned(), text)])),
            "syn.json" => sample.json("syn.json").ok().filter(are_sets),
            "paug.json" => sample.json("paug.json").ok().filter(are_parameters),
            "npz" => embeddings(sample)?,
            "pth.gz" if sample.get("npz").is_none() => embeddings(sample)?,
            "json" => sample.json("json").ok().filter(|own| is_plain(own, sample)),
            _ => None,
        };
        match fields {
            Some(mut fields) => object.append(&mut fields),
            None => _ = members.insert(member.suffix.clone(), STANDARD.encode(&member.bytes).into()),
        }
    }
    object.entry("uid").or_insert_with(|| sample.key().into());
    let own = object.get("uid").and_then(Value::as_str).map(name_of);
    if own.as_deref() != Some(sample.key()) {
        object.insert(KEY.to_owned(), sample.key().into());
    }
    if !members.is_empty() {
        object.insert(MEMBERS.to_owned(), members.into());
    }
    Ok(object)
}

fn are_sets(sets: &Map<String, Value>) -> bool {
    let is_list = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    sets.iter().all(|(name, captions)| is_set(name) && is_list(captions))
}

fn are_parameters(parameters: &Map<String, Value>) -> bool {
    parameters.len() == 1 && parameters.contains_key(PARAMETERS)
}

/// Whether the fields of a `json` would be read as such again.
fn is_plain(own: &Map<String, Value>, sample: &Sample) -> bool {
    let is_caption =
        |field: &str| CAPTIONS.contains(&field) && (field == "text" || sample.get("txt").is_none());
    let is_other = |field: &str| [KEY, IMAGE, MEMBERS, PARAMETERS, "url"].contains(&field);
    own.iter().all(|(field, value)| match field.as_str() {
        "uid" => value.is_string(),
        "id" => own.contains_key("uid"),
        field => !is_caption(field) && !is_other(field) && !is_set(field) && !is_embedding(field),
    })
}

/// The arrays, packed; nothing if one of them would not be taken for an embedding.
fn embeddings(sample: &Sample) -> io::Result<Option<Map<String, Value>>> {
    let Ok((_, arrays)) = arrays::read(sample, &Limits::default()) else { return Ok(None) };
    if !arrays.keys().all(|name| is_embedding(name)) {
        return Ok(None);
    }
    let packed = arrays.into_iter().map(|(name, matrix)| Ok((name, pickled::write(&matrix)?.into())));
    packed.collect::<io::Result<_>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(key: &str, members: &[(&str, &[u8])]) -> Sample {
        let member = |&(suffix, bytes): &(&str, &[u8])| Member { suffix: suffix.into(), bytes: bytes.into() };
        Sample::new(Path::new("0.tar").into(), key.into(), members.iter().map(member).collect())
    }

    fn read(object: Value) -> Result<Sample, Fault> {
        let Value::Object(object) = object else { panic!() };
        Fields { object, image: None, number: 7 }.sample(&Path::new("0.jsonl").into(), &Limits::default())
    }

    #[test]
    fn members_come_back_whatever_they_are() {
        let png = b"\x89PNG and so on".as_slice();
        let cases: [&[(&str, &[u8])]; 9] = [
            &[("png", png), ("txt", "a café".as_bytes()), ("json", br#"{"uid":"k","width":3}"#)],
            // What JSON cannot say, or would be read as something else.
            &[("txt", b"\xff"), ("cls", b"3"), ("json", b"{")],
            &[("json", br#"{"caption":"one","uid":"k","url":"u"}"#), ("txt", b"two")],
            &[("json", br#"{"caption":"one","uid":"k"}"#)],
            &[("jpg", png), ("webp", b"RIFF1234WEBP"), ("seg.png", png)],
            &[("syn.json", br#"{"other":["a"]}"#), ("paug.json", br#"{"param_aug":[],"more":1}"#)],
            &[("npz", b"no arrays"), ("pth.gz", b"none")],
            &[("json", br#"{"uid":"a.b/c"}"#)],
            &[("json", br#"{"image_emb_of_it":2,"uid":"k"}"#)],
        ];
        for members in cases {
            for key in ["k", "sub.dir/k", "a_b_c"] {
                let sample = sample(key, members);
                let object = Value::Object(object(&sample).unwrap());
                let back = read(serde_json::from_str(&object.to_string()).unwrap()).unwrap();
                assert_eq!(back.key(), key, "{object}");
                for (suffix, bytes) in members {
                    assert_eq!(back.get(suffix), Some(*bytes), "{suffix} of {object}");
                }
            }
        }
    }

    #[test]
    fn embeddings_keep_their_numbers() {
        let image = Matrix::new(2, 2, vec![0.1, -1.0, 1e-30, 3.0]).unwrap();
        let text = Matrix::new(1, 2, vec![1.0, 0.5]).unwrap();
        let member = array_member(&[("image_emb", &image), ("text_emb", &text)], ArrayType::F32).unwrap();
        let npz = sample(
            "k",
            &[("npz", &member.bytes), ("syn.json", b"{}"), ("paug.json", br#"{"param_aug":[[1]]}"#)],
        );
        let back = read(Value::Object(object(&npz).unwrap())).unwrap();
        assert_eq!(back.get("npz"), Some(&member.bytes[..]));
        assert_eq!(back.get("syn.json"), Some(&b"{}"[..]));
        assert_eq!(back.get("paug.json"), Some(&br#"{"param_aug":[[1]]}"#[..]));
        let plain = read(json!({"image_emb": [[0.1, -1.0], [1e-30, 3.0]], "text_emb": [1.0, 0.5]})).unwrap();
        assert_eq!(plain.get("npz"), Some(&member.bytes[..]));
        assert_eq!(plain.key(), "00000007");
    }

    #[test]
    fn captions_have_three_names_and_sets_are_lists() {
        let text = |object| read(object).unwrap().text().unwrap().to_owned();
        assert_eq!(text(json!({"caption": "b", "text": "a"})), "a");
        assert_eq!(text(json!({"texts": ["c"]})), "c");
        let several = read(json!({"texts": ["c", "d"], "id": 12})).unwrap();
        assert_eq!((several.text(), several.key()), (Ok("c"), "12"));
        assert_eq!(several.json_texts("texts").unwrap(), ["c", "d"]);
        let set = read(json!({"syn_text": "one", "syn_text_b": ["two"], "december": 1})).unwrap();
        assert_eq!(set.get("syn.json"), Some(&br#"{"syn_text":["one"],"syn_text_b":["two"]}"#[..]));
        assert_eq!(set.get("json"), Some(&br#"{"december":1}"#[..]));
        for (object, cause) in [
            (json!({"text": 3}), "bad text"),
            (json!({"texts": ["a", 3]}), "bad texts"),
            (json!({"syn_text": 3}), "bad syn_text"),
            (json!({"image": "%"}), "bad image"),
            (json!({"image": 3}), "bad image"),
            (json!({"text_emb": [[1, 2], [3]]}), "bad text_emb"),
            (json!({"text_emb": "aaaa"}), "bad text_emb"),
            (json!({"members": {"x": "%"}}), "bad members"),
        ] {
            assert_eq!(read(object).unwrap_err().cause(), cause);
        }
    }
}
