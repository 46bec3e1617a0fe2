//! `paug.json`: the parameters of all augmentations of a sample.

use serde_json::{Map, Value, json};

use super::json::dumps;
use super::{Config, Error, Parameters};

/// The two published forms of `param_aug`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// A list, as the published trainer reads it.
    #[default]
    List,
    /// A text that holds the list as JSON, as the published sets have it.
    String,
}

impl Config {
    /// Reads the bytes of a `paug.json`, in either dialect.
    ///
    /// # Errors
    /// [`Error::Parameters`] with the key, if the bytes are no such object or a number is none that the transformation could have stored.
    pub fn read_paug(&self, bytes: &[u8]) -> Result<(Vec<Parameters>, Dialect), Error> {
        let wrong = |reason| Error::Parameters { key: "param_aug".to_owned(), reason };
        let object: Map<String, Value> = serde_json::from_slice(bytes)
            .map_err(|error| wrong(format!("no JSON object around it: {error}")))?;
        self.read_param_aug(object.get("param_aug").ok_or_else(|| wrong("is missing".to_owned()))?)
    }

    /// Reads the value of `param_aug`, in either dialect.
    ///
    /// # Errors
    /// As [`Config::read_paug`].
    pub fn read_param_aug(&self, value: &Value) -> Result<(Vec<Parameters>, Dialect), Error> {
        let wrong = |reason| Error::Parameters { key: "param_aug".to_owned(), reason };
        let read = |value: &Value| {
            let list = value.as_array().ok_or_else(|| wrong("is no list".to_owned()))?;
            let one = |(i, entry)| Parameters::read(self, entry, &format!("param_aug[{i}]"));
            list.iter().enumerate().map(one).collect::<Result<Vec<_>, Error>>()
        };
        match value {
            Value::String(text) => {
                let list = serde_json::from_str(text)
                    .map_err(|error| wrong(format!("is a text, but no JSON: {error}")))?;
                Ok((read(&list)?, Dialect::String))
            }
            list => Ok((read(list)?, Dialect::List)),
        }
    }

    /// The bytes of a `paug.json`, equal to what Python's `json.dumps` makes of the reference's compressed parameters.
    #[must_use]
    pub fn write_paug(&self, parameters: &[Parameters], dialect: Dialect) -> String {
        dumps(&json!({ "param_aug": self.write_param_aug(parameters, dialect) }))
    }

    /// The value of `param_aug`.
    #[must_use]
    pub fn write_param_aug(&self, parameters: &[Parameters], dialect: Dialect) -> Value {
        let list: Value = parameters.iter().map(|one| one.write(self)).collect();
        match dialect {
            Dialect::List => list,
            Dialect::String => dumps(&list).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(config: &str, entry: &str, key: &str, part: &str) {
        let config = Config::parse(config).unwrap();
        let bytes = format!(r#"{{"param_aug": [{entry}]}}"#);
        let error = config.read_paug(bytes.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(&format!("`param_aug[0]{key}`")) && error.contains(part), "{entry}: {error}");
    }

    #[test]
    fn faults_name_their_key() {
        let crop = r#"{"random_resized_crop": {"size": 8}}"#;
        fails(crop, "{}", "", "expected a list");
        fails(crop, "[]", ".random_resized_crop", "missing");
        fails(crop, "[[1, 2, 3]]", ".random_resized_crop", "expected [top, left, height, width]");
        fails(crop, "[[1, 2, 0, 4]]", ".random_resized_crop", "above 0");
        fails(crop, "[[1, 2, 3, 1e300]]", ".random_resized_crop", "1e+300");
        fails(crop, "[[1, 2, 3, 4], null]", "", "1 more");
        let operations = r#"{"rand_augment": {}}"#;
        fails(operations, "[[[99, 1.0]]]", ".rand_augment", "from 0 to 13");
        fails(operations, "[[[1, \"x\"]]]", ".rand_augment", "found");
        fails(operations, "[[[10, 9.0]]]", ".rand_augment", "magnitude that it can have");
        fails(operations, "[[[6, 1e39]]]", ".rand_augment", "magnitude that it can have");
        fails(r#"{"random_horizontal_flip": {}}"#, "[1]", ".random_horizontal_flip", "true or false");
        fails(r#"{"random_erase": {}}"#, "[[-2, 0, 1, 1]]", ".random_erase", "top of -1");
        fails(r#"{"random_crop": {"size": 8}}"#, "[[0.5, 0]]", ".random_crop", "[top, left]");
        let mix = r#"{"random_horizontal_flip": {}, "mixup": {}, "cutmix": {}}"#;
        fails(mix, "[7, true, 0.5, null]", ".random_horizontal_flip", "a pair");
        fails(mix, "[null, true, 0.5, null]", ".partner", "was mixed");
        fails(mix, "[[], true, 0.5, null]", ".partner", "an id");
        fails(mix, "[1, [true, true], 2, null]", ".mixup", "0 to 1");
        fails(mix, "[1, [true, true], null, [0.5, 1, 2, 3]]", ".cutmix", "bottom, right");
    }

    #[test]
    fn whole_files_that_are_none() {
        let config = Config::published();
        let fails = |bytes: &[u8], part: &str| {
            let error = config.read_paug(bytes).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        fails(b"[1", "no JSON object");
        fails(b"{}", "`param_aug`: is missing");
        fails(br#"{"param_aug": 7}"#, "`param_aug`: is no list");
        fails(br#"{"param_aug": "[[1"}"#, "is a text, but no JSON");
    }

    #[test]
    fn both_dialects_are_written_as_published() {
        let list = r#"{"param_aug": [[[46, 12, 12, 66], [[5, 9.0], [12, 0.0]]], [[1, 2, 16, 93], null]]}"#;
        let text = r#"{"param_aug": "[[[46, 12, 12, 66], [[5, 9.0], [12, 0.0]]], [[1, 2, 16, 93], null]]"}"#;
        let config = Config::published();
        let (parameters, dialect) = config.read_paug(list.as_bytes()).unwrap();
        assert_eq!(dialect, Dialect::List);
        assert_eq!(config.read_paug(text.as_bytes()).unwrap(), (parameters.clone(), Dialect::String));
        assert_eq!(config.write_paug(&parameters, Dialect::List), list);
        assert_eq!(config.write_paug(&parameters, Dialect::String), text);
        // Numbers in another form than the reference's are understood, and written in its form.
        let other = br#"{"param_aug":[[[46.0,12,12,66],[[5,9],[12,0]]],[[1,2,16,93],null]]}"#;
        assert_eq!(config.read_paug(other).unwrap().0, parameters);
    }
}
