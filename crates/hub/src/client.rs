//! Requests to the hub: redirects, the token, waits, refusals.

use std::fs;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{HeaderMap, Response};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy};

use crate::cache::Hash;
use crate::error::Error;
use crate::hub::Progress;
use crate::paths::{Repo, is_commit};
use crate::settings::Settings;
use crate::url::{is_same_hub, join};

const MAX_REDIRECTS: usize = 20;
/// Tries of one request, and breaks of one transfer without a byte between them.
pub(crate) const MAX_TRIES: u32 = 5;
/// A hub that wants a longer pause gets no second request from us.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// A repository's description with its list of files; the largest have some MB.
const MAX_LIST_BYTES: u64 = 64 << 20;
/// CA bundles have a few hundred KB.
const MAX_CA_BYTES: u64 = 16 << 20;

/// What a HEAD tells about a file.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub commit: String,
    pub hash: Hash,
    pub size: Option<u64>,
    /// Where the content is loaded from.
    pub location: String,
}

/// The answer to a HEAD that was answered.
pub(crate) enum Head {
    Found(Meta),
    /// The revision exists, the file does not.
    Missing {
        commit: Option<String>,
    },
}

pub(crate) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    etag_timeout: Duration,
    first_wait: Duration,
}

/// No answer at all.
pub(crate) struct NoAnswer {
    pub url: String,
    pub reason: String,
}

/// The last answer of a chain of redirects.
pub(crate) struct Answer {
    pub url: String,
    pub response: Response<Body>,
}

impl Client {
    pub fn new(settings: &Settings, proxy: Option<Proxy>, first_wait: Duration) -> Result<Self, Error> {
        let mut tls = TlsConfig::builder();
        if let Some((variable, path)) = &settings.ca_file {
            tls = tls.root_certs(authorities(variable, path)?);
        }
        let wait = settings.download_timeout;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("mobileclip/", env!("CARGO_PKG_VERSION"), "; rust"))
            .proxy(proxy)
            .tls_config(tls.build())
            .timeout_resolve(Some(wait))
            .timeout_connect(Some(wait))
            .timeout_recv_response(Some(wait))
            .timeout_per_read(Some(wait))
            .build();
        Ok(Self {
            agent: config.into(),
            endpoint: settings.endpoint.clone(),
            token: settings.token.clone(),
            etag_timeout: settings.etag_timeout,
            first_wait,
        })
    }

    /// Asks for a file's commit, hash, size and place.
    pub fn head(
        &self,
        repo: &Repo,
        file: &str,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Head, Error> {
        let what = format!("{file} of {}", repo.id());
        let url = repo.file_url(&self.endpoint, file);
        let Answer { url, response } = self.patiently(&what, progress, || self.send(Method::Head, &url))?;
        let headers = response.headers();
        let commit = header(headers, "x-repo-commit").filter(|c| is_commit(c));
        let status = response.status();
        if !(status.is_success() || status.is_redirection()) {
            return match self.refusal(repo, file, &url, status.as_u16(), headers) {
                Error::FileNotFound { .. } => Ok(Head::Missing { commit: commit.map(Into::into) }),
                error => Err(error),
            };
        }
        let strange = |reason: &str| Error::StrangeAnswer { url: url.clone(), reason: reason.into() };
        let commit = commit.ok_or_else(|| strange("no commit (X-Repo-Commit)"))?;
        let etag = header(headers, "x-linked-etag").or_else(|| header(headers, "etag"));
        let hash = etag.and_then(Hash::from_etag);
        let hash = hash.ok_or_else(|| strange("no hash (ETag) that the content could be checked with"))?;
        let own_size = header(headers, "content-length").filter(|_| !status.is_redirection());
        let size = header(headers, "x-linked-size").or(own_size).and_then(|s| s.parse().ok());
        let location = match header(headers, "location").filter(|_| status.is_redirection()) {
            Some(location) => join(&url, location).ok_or_else(|| strange("a redirect that leads nowhere"))?,
            None => url.clone(),
        };
        Ok(Head::Found(Meta { commit: commit.into(), hash, size, location }))
    }

    /// The names of a repository's files.
    pub fn list(&self, repo: &Repo, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        #[derive(Deserialize)]
        struct Description {
            siblings: Vec<Sibling>,
        }
        let what = format!("the list of files of {}", repo.id());
        let url = repo.list_url(&self.endpoint);
        let Answer { url, mut response } =
            self.patiently(&what, progress, || self.send(Method::List, &url))?;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            return Err(self.refusal(repo, "", &url, status, response.headers()));
        }
        let reader = response.body_mut().with_config().limit(MAX_LIST_BYTES).reader();
        let description: Description = serde_json::from_reader(reader)
            .map_err(|e| Error::StrangeAnswer { url, reason: format!("no list of files: {e}") })?;
        Ok(description.siblings.into_iter().map(|s| s.rfilename).collect())
    }

    /// The content at `url`, from byte `start` on if the server can.
    pub fn get(&self, url: &str, start: u64) -> Result<Answer, NoAnswer> {
        self.send(Method::Get { start }, url)
    }

    /// Follows redirects: a HEAD only within the hub, for then the hub's headers are the answer.
    fn send(&self, method: Method, url: &str) -> Result<Answer, NoAnswer> {
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let is_hub = self.is_hub(&url);
            let mut request = match method {
                Method::Head => self.agent.head(&url),
                Method::List | Method::Get { .. } => self.agent.get(&url),
            };
            if !matches!(method, Method::Get { .. }) {
                request = request.config().timeout_global(Some(self.etag_timeout)).build();
            }
            // The size must be that of the content, not of a packed form of it.
            request = request.header("accept-encoding", "identity");
            if let Method::Get { start: start @ 1.. } = method {
                request = request.header("range", format!("bytes={start}-"));
            }
            // Another server has no business with the token.
            if let Some(token) = self.token.as_ref().filter(|_| is_hub) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|e| NoAnswer { url: url.clone(), reason: reason(&e) })?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { url, response });
            }
            let next = header(response.headers(), "location").and_then(|l| join(&url, l));
            let stays = next.as_ref().is_some_and(|next| self.is_hub(next));
            match next {
                Some(next) if stays || !matches!(method, Method::Head) => url = next,
                _ if matches!(method, Method::Head) => return Ok(Answer { url, response }),
                _ => return Err(NoAnswer { url, reason: "a redirect that leads nowhere".into() }),
            }
        }
        Err(NoAnswer { url, reason: format!("more than {MAX_REDIRECTS} redirects") })
    }

    /// Repeats a request that the hub asks to repeat. A missing network is reported at once.
    fn patiently(
        &self,
        what: &str,
        progress: &mut dyn FnMut(Progress<'_>),
        request: impl Fn() -> Result<Answer, NoAnswer>,
    ) -> Result<Answer, Error> {
        let mut tried = 1;
        loop {
            let no_answer = |NoAnswer { url, reason }| Error::Unreachable { what: what.into(), url, reason };
            let answer = request().map_err(no_answer)?;
            let status = answer.response.status().as_u16();
            let wait = self.wait(tried, asked_wait(answer.response.headers()));
            let Some(wait) = wait.filter(|_| is_transient(status)) else { return Ok(answer) };
            progress(Progress::Waiting { file: what, reason: &format!("status {status}"), wait });
            std::thread::sleep(wait);
            tried += 1;
        }
    }

    /// The pause before the next try, `asked` for by the server or our own; `None` if there shall be none.
    pub fn wait(&self, tried: u32, asked: Option<Duration>) -> Option<Duration> {
        let wait =
            asked.unwrap_or_else(|| self.first_wait.saturating_mul(1 << (tried.clamp(1, MAX_TRIES) - 1)));
        (tried < MAX_TRIES && wait <= MAX_WAIT).then_some(wait)
    }

    /// Whether the address is the hub's own, not that of a store which it sends its readers to.
    pub fn is_hub(&self, url: &str) -> bool {
        is_same_hub(url, &self.endpoint)
    }

    /// The error that an answer means.
    pub fn refusal(&self, repo: &Repo, file: &str, url: &str, status: u16, headers: &HeaderMap) -> Error {
        let message = header(headers, "x-error-message").unwrap_or("").to_owned();
        let has_token = self.token.is_some();
        let id = repo.id().to_owned();
        match (header(headers, "x-error-code"), status) {
            (Some("GatedRepo"), _) => Error::Gated {
                page: repo.page(&self.endpoint),
                repo: id,
                message: if message.is_empty() { "its authors ask for consent".into() } else { message },
                has_token,
            },
            (Some("RevisionNotFound"), _) => {
                Error::RevisionNotFound { repo: id, revision: repo.revision().into() }
            }
            (Some("RepoNotFound"), _) | (None, 401) => {
                Error::RepositoryNotFound { repo: id, status, has_token }
            }
            (Some("EntryNotFound"), _) | (None, 404) => {
                Error::FileNotFound { repo: id, revision: repo.revision().into(), file: file.into() }
            }
            _ => Error::Status { url: url.into(), status, message },
        }
    }
}

#[derive(Clone, Copy)]
enum Method {
    Head,
    List,
    Get { start: u64 },
}

/// Whether the same request may be answered better a little later.
pub(crate) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..)
}

pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// Seconds from `ratelimit: "api";r=0;t=12` or `retry-after: 12`.
pub(crate) fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let rate_limit = header(headers, "ratelimit")
        .and_then(|value| value.split([';', ',']).find_map(|part| part.trim().strip_prefix("t=")));
    let seconds = rate_limit.or_else(|| header(headers, "retry-after"))?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

/// The innermost cause in plain words.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "the name is not known; is there a network?".into(),
        ureq::Error::Io(e) => e.to_string(),
        other => other.to_string(),
    }
}

fn authorities(variable: &'static str, path: &std::path::Path) -> Result<RootCerts, Error> {
    let bad =
        |reason: String| Error::BadVariable { variable, reason: format!("{}: {reason}", path.display()) };
    let size = fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
    if size > MAX_CA_BYTES {
        return Err(bad(format!("{size} bytes are too many for a file of certificates")));
    }
    let pem = fs::read(path).map_err(|e| bad(e.to_string()))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(e) => Some(Err(bad(e.to_string()))),
        })
        .collect::<Result<_, _>>()?;
    if certificates.is_empty() {
        return Err(bad("no certificate in it".into()));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}
