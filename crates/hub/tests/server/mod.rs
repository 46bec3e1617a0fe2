//! A small HTTP server on this machine that answers as a test wants, and the hub's routes on top of it.
//!
//! A server asked for by several tests must not be clever: one request a connection, a thread for each, and everything
//! that arrived is kept for the test to look at.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mobileclip_hub::Hub;
use sha1::Digest as _;

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub fn range_start(&self) -> Option<usize> {
        self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

#[derive(Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    pub cut: Option<usize>,
    /// Written as content length instead of the body's.
    pub length: Option<usize>,
    /// No content length at all.
    pub has_no_length: bool,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.into(), value.to_string()));
        self
    }

    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.into();
        self
    }

    /// As a store answers for this content: whole, or a part if the request asks for one.
    pub fn content(request: &Request, content: &[u8]) -> Self {
        match request.range_start() {
            Some(start) if start < content.len() => Self::new(206)
                .with("Content-Range", format!("bytes {start}-{}/{}", content.len() - 1, content.len()))
                .body(&content[start..]),
            Some(_) => Self::new(416),
            None => Self::new(200).body(content),
        }
    }
}

pub struct Server {
    pub url: String,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(answer);
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&kept));
                std::thread::spawn(move || {
                    if let Some(request) = read_request(&stream) {
                        log.lock().unwrap().push(request.clone());
                        // The client may be gone already; that is its good right.
                        let _ = write_reply(&stream, &request, &answer(&request));
                    }
                });
            }
        });
        Self { url, log }
    }

    /// The requests since the last call.
    pub fn taken(&self) -> Vec<Request> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.by_ref().take(1 << 16).read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let mut first = lines.first()?.split(' ');
    let (method, path) = (first.next()?.into(), first.next()?.into());
    let headers = lines[1..].iter().filter_map(|l| l.split_once(": "));
    Some(Request { method, path, headers: headers.map(|(n, v)| (n.to_lowercase(), v.into())).collect() })
}

fn write_reply(mut stream: &TcpStream, request: &Request, reply: &Reply) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} -\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !reply.has_no_length {
        head += &format!("Content-Length: {}\r\n", reply.length.unwrap_or(reply.body.len()));
    }
    stream.write_all((head + "\r\n").as_bytes())?;
    if request.method != "HEAD" {
        let end = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
        stream.write_all(&reply.body[..end])?;
    }
    stream.flush()?;
    stream.shutdown(Shutdown::Write)
}

pub fn sha256(content: &[u8]) -> String {
    sha2::Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect()
}

pub fn git_sha1(content: &[u8]) -> String {
    let digest = sha1::Sha1::new_with_prefix(format!("blob {}\0", content.len())).chain_update(content);
    digest.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// One repository's content as the hub serves it: small files itself, large ones by a redirect to a store.
#[derive(Clone, Default)]
pub struct Files {
    pub commit: String,
    pub files: BTreeMap<String, Vec<u8>>,
    pub store: String,
}

impl Files {
    pub fn new(commit: char, store: &str, files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(name, content)| ((*name).into(), (*content).into())).collect();
        Self { commit: commit.to_string().repeat(40), files, store: store.into() }
    }

    /// The answer to `/owner/name/resolve/REVISION/FILE` and to the list.
    pub fn answer(&self, request: &Request) -> Reply {
        let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        if parts.first() == Some(&"api") {
            let names: Vec<_> = self.files.keys().map(|n| serde_json::json!({ "rfilename": n })).collect();
            let list = serde_json::json!({ "sha": self.commit, "siblings": names });
            return Reply::new(200).body(list.to_string().as_bytes());
        }
        let (revision, file) = (parts[3], parts[4..].join("/"));
        if revision != "main" && revision != self.commit {
            return Reply::new(404).with("X-Error-Code", "RevisionNotFound");
        }
        let Some(content) = self.files.get(&file) else {
            return Reply::new(404).with("X-Error-Code", "EntryNotFound").with("X-Repo-Commit", &self.commit);
        };
        if content.len() > 1000 {
            let hash = sha256(content);
            return Reply::new(302)
                .with("X-Repo-Commit", &self.commit)
                .with("X-Linked-Etag", format!("\"{hash}\""))
                .with("X-Linked-Size", content.len())
                .with("ETag", "\"other\"")
                .with("Location", format!("{}/{hash}?signature=x", self.store));
        }
        Reply::content(request, content)
            .with("X-Repo-Commit", &self.commit)
            .with("ETag", format!("\"{}\"", git_sha1(content)))
    }
}

/// A client of that server with its cache in `home`, and further variables.
pub fn hub(home: &Path, endpoint: &str, more: &[(&str, &str)]) -> Hub {
    let hub = Hub::from_vars(|name| {
        let more = more.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
        more.or_else(|| match name {
            "HF_HOME" => Some(home.into()),
            "HF_ENDPOINT" => Some(endpoint.into()),
            _ => None,
        })
    });
    hub.unwrap().with_first_wait(Duration::from_millis(5)).unwrap()
}

/// The folder as the goldens write it: `path (size bytes)`, `path -> target`; without the optional files.
pub fn tree(root: &Path) -> Vec<String> {
    let mut out = Vec::new();
    walk(root, root, &mut out);
    out.retain(|line| !line.starts_with("CACHEDIR.TAG") && !line.starts_with(".locks/"));
    out.sort();
    out
}

fn walk(root: &Path, folder: &Path, out: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            out.push(format!("{name} -> {}", std::fs::read_link(&path).unwrap().display()));
        } else if kind.is_dir() {
            walk(root, &path, out);
        } else {
            let size = entry.metadata().unwrap().len();
            let text = if name.contains("/refs/") {
                format!(": {}", std::fs::read_to_string(&path).unwrap())
            } else {
                String::new()
            };
            out.push(format!("{name} ({size} bytes{text})"));
        }
    }
}
