//! What a store's error means, in one line.

use std::io;

use object_store::Error;

use super::bucket::Bucket;

/// The service that tells virtual machines who they are; clients ask it last.
const NO_SERVICE: &str = "169.254.169.254";
/// Characters of a message that are passed on.
const MESSAGE_MAX: usize = 300;

/// Whether trying again is in vain.
pub(super) fn is_final(error: &Error) -> bool {
    !matches!(error, Error::Generic { .. } | Error::JoinError { .. }) || mend(error).is_some()
}

/// Whether an answer has begun and not ended, so that the client has not tried again by itself.
pub(super) fn is_cut(error: &Error) -> bool {
    !is_final(error) && retries(&error.to_string()).is_empty()
}

/// Whether it is the bucket that is missing, not the object.
pub(super) fn names_bucket(error: &Error) -> bool {
    let text = error.to_string();
    ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"]
        .iter()
        .any(|what| text.contains(what))
}

/// The error of a request as that of a file.
pub(super) fn reason(error: &Error, bucket: &Bucket) -> io::Error {
    let cause = cause(error);
    let Bucket { scheme, name, .. } = bucket;
    let (kind, text) = match error {
        Error::NotFound { .. } if names_bucket(error) => {
            (io::ErrorKind::NotFound, format!("there is no bucket `{name}` on this {scheme}:// store"))
        }
        Error::NotFound { .. } => return super::missing(),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            let credentials = bucket.credentials();
            let text = format!("access is refused ({cause}); it is granted by {credentials}");
            (io::ErrorKind::PermissionDenied, text)
        }
        Error::AlreadyExists { .. } => (io::ErrorKind::AlreadyExists, "is there already".to_owned()),
        Error::Precondition { .. } => (io::ErrorKind::Other, "has changed while it was read".to_owned()),
        Error::NotSupported { .. } | Error::NotImplemented { .. } => (io::ErrorKind::Unsupported, cause),
        _ if cause.contains(NO_SERVICE) || error.to_string().contains(NO_SERVICE) => {
            let text = format!("there are no credentials for {scheme}://; set {}", bucket.credentials());
            (io::ErrorKind::PermissionDenied, text)
        }
        _ => match mend(error) {
            Some(mend) => (io::ErrorKind::InvalidInput, format!("{cause}; {mend}")),
            None => (io::ErrorKind::Other, format!("{cause}{}", retries(&error.to_string()))),
        },
    };
    io::Error::new(kind, text)
}

/// What helps, if the error is one that will not go by itself.
fn mend(error: &Error) -> Option<&'static str> {
    const MENDS: [(&str, &str); 5] = [
        ("without LOCATION", "is AWS_REGION the bucket's?"),
        ("PermanentRedirect", "is AWS_REGION the bucket's?"),
        ("AuthorizationHeaderMalformed", "is AWS_REGION the bucket's?"),
        ("URL scheme is not allowed", "AWS_ALLOW_HTTP=true allows an endpoint without TLS"),
        (NO_SERVICE, "there are no credentials in the environment"),
    ];
    // A store's client says the outer half, the innermost error the other.
    let text = format!("{error} {}", innermost(error));
    MENDS.iter().find(|(sign, _)| text.contains(sign)).map(|(_, mend)| *mend)
}

/// The innermost cause: a status with what the store says about it, or what became of the connection.
fn cause(error: &Error) -> String {
    let text = innermost(error);
    let text = text.strip_prefix("Server returned non-2xx status code: ").unwrap_or(&text);
    match (element(text, "Code"), element(text, "Message")) {
        (Some(code), message) => {
            let status = text.split(": ").next().unwrap_or_default();
            let message = message.map_or(String::new(), |message| format!(": {message}"));
            one_line(&format!("{status}, {code}{message}"))
        }
        _ => one_line(text),
    }
}

fn innermost(error: &Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// How often it was tried, where the store's client says so.
fn retries(text: &str) -> String {
    let tried = text.split(", after ").nth(1).and_then(|rest| rest.split(' ').next());
    tried.map_or(String::new(), |times| format!(" (tried {times} times again)"))
}

/// What stands in an XML element.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside)
}

/// Text without line breaks, of a bearable length.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").trim_end_matches([' ', ':']).chars().take(MESSAGE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stores_answer_becomes_one_line() {
        let xml = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code>\n<Message>Access\nDenied</Message></Error>";
        let error = Error::Generic { store: "S3", source: xml.into() };
        assert_eq!(cause(&error), "403 Forbidden, AccessDenied: Access Denied");
        let plain = Error::Generic {
            store: "S3",
            source: "Server returned non-2xx status code: 500 Internal Server Error: ".into(),
        };
        assert_eq!(cause(&plain), "500 Internal Server Error");
        assert_eq!(one_line(&"long ".repeat(200)).chars().count(), MESSAGE_MAX);
        assert_eq!(retries("in 3s, after 6 retries, max_retries: 6 - x"), " (tried 6 times again)");
        assert!(
            is_cut(&plain)
                && !is_final(&plain)
                && is_final(&Error::Generic {
                    store: "S3",
                    source: "Received redirect without LOCATION, this".into()
                })
        );
    }
}
