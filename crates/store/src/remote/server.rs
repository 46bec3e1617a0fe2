//! A small S3 and web server for tests, whose answers go wrong as a test asks.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// It is not done, and answered by this status.
    Status(u16),
    /// It is done, and not answered.
    Lost,
    /// It is done, and after so many bytes of the answer's body the connection is cut.
    Cut(usize),
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    faults: VecDeque<Fault>,
    requests: Vec<String>,
    has_ranges: bool,
}

/// The server. Its one bucket is `shards`.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) url: String,
    state: Arc<Mutex<State>>,
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Server {
    pub(super) fn start(has_ranges: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { url, state: Arc::new(Mutex::new(State { has_ranges, ..State::default() })) };
        let shared = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let server = shared.clone();
                std::thread::spawn(move || server.answer(stream.unwrap()));
            }
        });
        server
    }

    /// What happens to the next requests, in the order in which they come.
    pub(super) fn faults(&self, faults: &[Fault]) {
        self.state.lock().unwrap().faults = faults.iter().copied().collect();
    }

    pub(super) fn put(&self, key: &str, bytes: &[u8]) {
        self.state.lock().unwrap().objects.insert(key.to_owned(), bytes.to_vec());
    }

    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap().objects.get(key).cloned()
    }

    /// The requests since the last time, and forgets them.
    pub(super) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    fn answer(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let Some(request) = read(&mut reader) else { return };
        let fault = {
            let mut state = self.state.lock().unwrap();
            state.requests.push(format!("{} {}", request.method, request.path));
            state.faults.pop_front().unwrap_or(Fault::None)
        };
        if let Fault::Status(status) = fault {
            return send(stream, &request, status, &[], b"<Error><Code>InternalError</Code></Error>", None);
        }
        let (status, headers, body) = self.state.lock().unwrap().act(&request);
        match fault {
            Fault::Lost => {}
            Fault::Cut(after) => send(stream, &request, status, &headers, &body, Some(after)),
            _ => send(stream, &request, status, &headers, &body, None),
        }
    }
}

type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn etag(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("\"{hash:016x}\"")
}

fn error(status: u16, code: &str) -> Answer {
    (
        status,
        Vec::new(),
        format!("<Error><Code>{code}</Code><Message>as asked</Message></Error>").into_bytes(),
    )
}

impl State {
    fn act(&mut self, request: &Request) -> Answer {
        let Some(key) =
            request.path.strip_prefix("/shards").map(|key| key.trim_start_matches('/').to_owned())
        else {
            return error(404, "NoSuchBucket");
        };
        let has = |name: &str| request.query.split('&').any(|part| part.split('=').next() == Some(name));
        match request.method.as_str() {
            "GET" if has("list-type") => self.list(&request.query),
            "GET" | "HEAD" => self.read(&key, request),
            "POST" if has("delete") => {
                let text = String::from_utf8_lossy(&request.body).into_owned();
                let mut body = "<DeleteResult>".to_owned();
                for part in text.split("<Key>").skip(1) {
                    let key = part.split("</Key>").next().unwrap();
                    self.objects.remove(key);
                    // Also of what was not there.
                    body += &format!("<Deleted><Key>{key}</Key></Deleted>");
                }
                (200, Vec::new(), (body + "</DeleteResult>").into_bytes())
            }
            "POST" if has("uploads") => {
                let id = format!("upload-{}", self.uploads.len());
                self.uploads.insert(id.clone(), BTreeMap::new());
                let body = format!(
                    "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                );
                (200, Vec::new(), body.into_bytes())
            }
            "PUT" | "POST" if has("uploadId") => {
                let value = |name: &str| {
                    let part =
                        request.query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
                    part.unwrap_or_default().to_owned()
                };
                let id = value("uploadId");
                if request.method == "PUT" {
                    let Some(parts) = self.uploads.get_mut(&id) else { return error(404, "NoSuchUpload") };
                    parts.insert(value("partNumber").parse().unwrap(), request.body.clone());
                    return (200, vec![("ETag", etag(&request.body))], Vec::new());
                }
                let Some(parts) = self.uploads.remove(&id) else { return error(404, "NoSuchUpload") };
                let whole = parts.into_values().flatten().collect::<Vec<u8>>();
                let tag = etag(&whole);
                self.objects.insert(key, whole);
                let body = format!(
                    "<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>"
                );
                (200, Vec::new(), body.into_bytes())
            }
            "DELETE" => (204, Vec::new(), Vec::new()),
            "PUT" => {
                let there = self.objects.get(&key).map(|bytes| etag(bytes));
                let is_broken = (request.headers.contains_key("if-none-match") && there.is_some())
                    || request.headers.get("if-match").is_some_and(|tag| there.as_ref() != Some(tag));
                if is_broken {
                    return error(412, "PreconditionFailed");
                }
                let tag = etag(&request.body);
                self.objects.insert(key, request.body.clone());
                (200, vec![("ETag", tag)], Vec::new())
            }
            _ => error(405, "MethodNotAllowed"),
        }
    }

    fn read(&self, key: &str, request: &Request) -> Answer {
        let Some(bytes) = self.objects.get(key) else { return error(404, "NoSuchKey") };
        let mut headers =
            vec![("ETag", etag(bytes)), ("Last-Modified", "Tue, 24 Nov 2026 12:00:00 GMT".to_owned())];
        if request.headers.get("if-match").is_some_and(|tag| *tag != etag(bytes)) {
            return error(412, "PreconditionFailed");
        }
        let range = request.headers.get("range").filter(|_| self.has_ranges);
        let Some((from, to)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
            return (200, headers, bytes.clone());
        };
        let (from, to) = (from.parse::<usize>().unwrap(), to.parse::<usize>().unwrap().min(bytes.len() - 1));
        headers.push(("Content-Range", format!("bytes {from}-{to}/{}", bytes.len())));
        (206, headers, bytes[from..=to].to_vec())
    }

    fn list(&self, query: &str) -> Answer {
        let prefix = query.split('&').find_map(|part| part.strip_prefix("prefix=")).unwrap_or_default();
        let prefix = prefix.replace("%2F", "/");
        let mut body = "<ListBucketResult>".to_owned();
        for (key, bytes) in self.objects.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            if !key[prefix.len()..].contains('/') {
                let (size, tag) = (bytes.len(), etag(bytes));
                body += &format!(
                    "<Contents><Key>{key}</Key><Size>{size}</Size><ETag>{tag}</ETag><LastModified>2026-11-24T12:00:00Z</LastModified></Contents>"
                );
            }
        }
        (200, Vec::new(), (body + "</ListBucketResult>").into_bytes())
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path: path.to_owned(), query: query.to_owned(), headers, body })
}

fn send(
    mut stream: TcpStream,
    request: &Request,
    status: u16,
    headers: &[(&str, String)],
    body: &[u8],
    cut: Option<usize>,
) {
    let mut head =
        format!("HTTP/1.1 {status} Status\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let body = match (request.method.as_str(), cut) {
        ("HEAD", _) => &[],
        (_, Some(after)) => &body[..after.min(body.len())],
        _ => body,
    };
    // The client may be gone.
    let _ = stream.write_all((head + "\r\n").as_bytes()).and_then(|()| stream.write_all(body));
}
