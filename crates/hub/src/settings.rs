//! The environment variables of the hub's clients, read once.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Error;

/// Where the hub lives when `HF_ENDPOINT` does not say otherwise.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// Both time-outs of the reference, in seconds.
const DEFAULT_TIMEOUT_S: u64 = 10;
/// A longer wait than this is a slip of the pen, and `Duration`s must stay addable.
const MAX_TIMEOUT_S: u64 = 24 * 3600;

/// What the environment says about hub and cache.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The folder with `models--owner--name`.
    pub cache: PathBuf,
    /// Scheme, name and port, without a slash at the end.
    pub endpoint: String,
    pub token: Option<String>,
    pub is_offline: bool,
    pub uses_symlinks: bool,
    /// For the small answers (HEAD, lists): whole request.
    pub etag_timeout: Duration,
    /// For downloads: until connected, until the first byte, between two reads.
    pub download_timeout: Duration,
    /// PEM file with the authorities to trust instead of the built-in list.
    pub ca_file: Option<(&'static str, PathBuf)>,
}

impl Settings {
    /// `var` gives an environment variable's value. A variable that is set to nothing counts as not set.
    pub fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let os = |name: &str| var(name).filter(|v| !v.is_empty());
        let home = os("HOME").or_else(|| os("USERPROFILE")).map(PathBuf::from);
        let path = |name: &str| os(name).map(|v| expand_home(Path::new(&v), home.as_deref()));
        let text = |name: &'static str| match os(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text.trim().to_owned()).filter(|t| !t.is_empty())),
            Some(Err(_)) => {
                Err(Error::BadVariable { variable: name, reason: "the value is not Unicode".into() })
            }
        };
        let flag = |name| text(name).map(|v| v.is_some_and(|v| is_true(&v)));

        let hf_home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|p| p.join("huggingface")))
            .or_else(|| home.as_deref().map(|p| p.join(".cache").join("huggingface")));
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| hf_home.as_deref().map(|p| p.join("hub")))
            .ok_or(Error::NoCacheFolder)?;

        let endpoint = text("HF_ENDPOINT")?.unwrap_or_else(|| DEFAULT_ENDPOINT.into());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if crate::url::origin(&endpoint).is_none() {
            let reason = format!("`{endpoint}` is no http or https address");
            return Err(Error::BadVariable { variable: "HF_ENDPOINT", reason });
        }

        let token = if flag("HF_HUB_DISABLE_IMPLICIT_TOKEN")? {
            None
        } else {
            let from_variable = match text("HF_TOKEN")? {
                None => text("HUGGING_FACE_HUB_TOKEN")?,
                some => some,
            };
            let file = path("HF_TOKEN_PATH").or_else(|| hf_home.as_deref().map(|p| p.join("token")));
            from_variable.or_else(|| {
                let text = std::fs::read_to_string(file?).ok()?;
                Some(text.trim().to_owned()).filter(|t| !t.is_empty())
            })
        };
        if token.as_ref().is_some_and(|t| !t.bytes().all(|b| b.is_ascii_graphic())) {
            // The value itself stays out of the message: it is a secret.
            let reason = "the token has characters that no token has".into();
            return Err(Error::BadVariable { variable: "HF_TOKEN", reason });
        }

        let seconds = |name| -> Result<Duration, Error> {
            let Some(value) = text(name)? else { return Ok(Duration::from_secs(DEFAULT_TIMEOUT_S)) };
            match value.parse::<u64>() {
                Ok(n) if n > 0 => Ok(Duration::from_secs(n.min(MAX_TIMEOUT_S))),
                _ => {
                    let reason = format!("`{value}` is no whole number of seconds above 0");
                    Err(Error::BadVariable { variable: name, reason })
                }
            }
        };

        Ok(Self {
            cache,
            endpoint,
            token,
            is_offline: flag("HF_HUB_OFFLINE")? || flag("TRANSFORMERS_OFFLINE")?,
            uses_symlinks: !flag("HF_HUB_DISABLE_SYMLINKS")?,
            etag_timeout: seconds("HF_HUB_ETAG_TIMEOUT")?,
            download_timeout: seconds("HF_HUB_DOWNLOAD_TIMEOUT")?,
            ca_file: ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"].into_iter().find_map(|v| Some((v, path(v)?))),
        })
    }
}

fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].iter().any(|t| value.eq_ignore_ascii_case(t))
}

/// `~` and `~/rest`, as a shell has it.
fn expand_home(path: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(vars: &[(&str, &str)]) -> Result<Settings, Error> {
        Settings::from_vars(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
    }

    fn cache(vars: &[(&str, &str)]) -> PathBuf {
        settings(vars).unwrap().cache
    }

    #[test]
    fn cache_folder_in_the_order_of_the_reference() {
        let all = [
            ("HF_HUB_CACHE", "/a"),
            ("HUGGINGFACE_HUB_CACHE", "/b"),
            ("HF_HOME", "/c"),
            ("XDG_CACHE_HOME", "/d"),
            ("HOME", "/e"),
        ];
        let expected = ["/a", "/b", "/c/hub", "/d/huggingface/hub", "/e/.cache/huggingface/hub"];
        for (i, want) in expected.iter().enumerate() {
            assert_eq!(cache(&all[i..]), Path::new(want), "without the first {i}");
        }
        assert!(matches!(settings(&[]), Err(Error::NoCacheFolder)));
        assert_eq!(
            cache(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/c")]),
            Path::new("/c/hub"),
            "empty is not set"
        );
        assert_eq!(cache(&[("HF_HOME", "~/x"), ("HOME", "/e")]), Path::new("/e/x/hub"));
    }

    #[test]
    fn token_from_variable_or_file() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), " hf_file\n").unwrap();
        std::fs::write(home.path().join("other"), "hf_other").unwrap();
        let hf_home = ("HF_HOME", home.path().to_str().unwrap());
        let other = home.path().join("other");
        let token_path = ("HF_TOKEN_PATH", other.to_str().unwrap());
        let token = |vars: &[(&str, &str)]| settings(vars).unwrap().token;
        assert_eq!(token(&[hf_home]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[hf_home, token_path]).as_deref(), Some("hf_other"));
        assert_eq!(token(&[hf_home, ("HUGGING_FACE_HUB_TOKEN", "hf_old")]).as_deref(), Some("hf_old"));
        let both = [hf_home, ("HUGGING_FACE_HUB_TOKEN", "hf_old"), ("HF_TOKEN", " hf_new\n")];
        assert_eq!(token(&both).as_deref(), Some("hf_new"));
        assert_eq!(token(&[hf_home, ("HF_TOKEN", "x"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "on")]), None);
        let error = settings(&[hf_home, ("HF_TOKEN", "top secret")]).unwrap_err().to_string();
        assert!(error.contains("HF_TOKEN") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn switches_times_and_address() {
        let home = ("HOME", "/e");
        for (value, is_on) in
            [("1", true), ("yes", true), ("True", true), ("ON", true), ("0", false), ("2", false)]
        {
            assert_eq!(settings(&[home, ("HF_HUB_OFFLINE", value)]).unwrap().is_offline, is_on, "{value}");
            assert_eq!(
                settings(&[home, ("TRANSFORMERS_OFFLINE", value)]).unwrap().is_offline,
                is_on,
                "{value}"
            );
            let links = settings(&[home, ("HF_HUB_DISABLE_SYMLINKS", value)]).unwrap().uses_symlinks;
            assert_eq!(links, !is_on, "{value}");
        }
        let s = settings(&[home, ("HF_HUB_ETAG_TIMEOUT", "3"), ("HF_ENDPOINT", "http://localhost:8080/")])
            .unwrap();
        assert_eq!((s.etag_timeout.as_secs(), s.download_timeout.as_secs()), (3, 10));
        assert_eq!(s.endpoint, "http://localhost:8080");
        for bad in
            [("HF_HUB_DOWNLOAD_TIMEOUT", "soon"), ("HF_HUB_ETAG_TIMEOUT", "0"), ("HF_ENDPOINT", "hub.local")]
        {
            let error = settings(&[home, bad]).unwrap_err();
            assert!(error.to_string().contains(bad.0), "{error}");
        }
    }
}
