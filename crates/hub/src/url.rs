//! Addresses: quoting, joining a `Location`, comparing origins.

use ureq::http::Uri;

/// Scheme, host in lower case, port. `None` for what is not an absolute http(s) address.
pub(crate) fn origin(url: &str) -> Option<(bool, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let is_https = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    Some((is_https, uri.host()?.to_ascii_lowercase(), port))
}

/// Whether both addresses belong to one server, or to two names of the hub itself. Its stores have names below
/// `huggingface.co` and `hf.co` too, so only whole names count.
pub(crate) fn is_same_hub(a: &str, b: &str) -> bool {
    let is_hub = |o: &(bool, String, u16)| {
        o.0 && o.2 == 443 && ["huggingface.co", "www.huggingface.co", "hf.co"].contains(&o.1.as_str())
    };
    match (origin(a), origin(b)) {
        (Some(a), Some(b)) => a == b || (is_hub(&a) && is_hub(&b)),
        _ => false,
    }
}

/// The address that a `Location` header means, seen from `base`. `None` if it is no http(s) address, or leads from an
/// encrypted connection to an open one.
pub(crate) fn join(base: &str, location: &str) -> Option<String> {
    let (is_https, ..) = origin(base)?;
    let scheme = if is_https { "https" } else { "http" };
    let (_, after_scheme) = base.split_once("://")?;
    let root_length =
        after_scheme.find(['/', '?']).map_or(base.len(), |i| base.len() - after_scheme.len() + i);
    let (root, path) = base.split_at_checked(root_length)?;
    // A colon before any slash: the location names its own scheme, and `origin` below says whether it is one of ours.
    let joined = if location.split('/').next().is_some_and(|start| start.contains(':')) {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{root}{location}")
    } else {
        let path = path.split(['?', '#']).next().unwrap_or("");
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{root}{folder}/{location}")
    };
    let (joined_is_https, ..) = origin(&joined)?;
    (joined_is_https || !is_https).then_some(joined)
}

/// Percent-encoding of everything but unreserved characters and those in `kept`.
pub(crate) fn quote(text: &str, kept: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if byte.is_ascii_alphanumeric() || "-._~".contains(c) || (byte.is_ascii() && kept.contains(c)) {
            out.push(c);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined() {
        let base = "http://hub:81/org/toy/resolve/main/a.json?x=1";
        for (location, expected) in [
            ("https://store/x?y", Some("https://store/x?y")),
            ("/other/toy/a.json", Some("http://hub:81/other/toy/a.json")),
            ("//store/x", Some("http://store/x")),
            ("b.json", Some("http://hub:81/org/toy/resolve/main/b.json")),
            ("http://", None),
        ] {
            assert_eq!(join(base, location).as_deref(), expected, "{location}");
        }
        assert_eq!(join("http://hub", "x").as_deref(), Some("http://hub/x"));
        assert_eq!(join("https://hub/a", "http://hub/a"), None, "never from https to http");
        assert_eq!(join("https://hub/a", "ftp://hub/a"), None);
    }

    #[test]
    fn origins() {
        assert!(is_same_hub("http://a/x", "http://A:80/y"));
        assert!(!is_same_hub("http://a/x", "https://a/x"));
        assert!(!is_same_hub("http://a:1/x", "http://a:2/x"));
        assert!(is_same_hub("https://huggingface.co/x", "https://hf.co/x"));
        assert!(!is_same_hub("https://huggingface.co/x", "https://cdn-lfs.huggingface.co/x"));
        assert!(!is_same_hub("https://huggingface.co/x", "https://huggingface.co.evil.example/x"));
    }

    #[test]
    fn quoting() {
        assert_eq!(quote("refs/pr/1", ""), "refs%2Fpr%2F1");
        assert_eq!(quote("a b/ü?.bin", "/"), "a%20b/%C3%BC%3F.bin");
    }
}
