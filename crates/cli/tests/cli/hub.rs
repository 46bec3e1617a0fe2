//! Download and use of a model, from a server on this machine that answers as the hub does.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

use crate::common::{Place, Ran, TINY};

/// Serves one repository with one file, and counts the requests.
fn serve(file: &'static str, content: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::Relaxed);
            // The client may be gone already.
            let _ = answer(&stream, file, &content);
        }
    });
    (url, requests)
}

fn answer(mut stream: &TcpStream, file: &str, content: &[u8]) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let commit = "c".repeat(40);
    if !first.contains(&format!("/{file} ")) {
        let head = format!("HTTP/1.1 404 -\r\nX-Error-Code: EntryNotFound\r\nX-Repo-Commit: {commit}\r\n");
        return stream.write_all(format!("{head}Content-Length: 0\r\nConnection: close\r\n\r\n").as_bytes());
    }
    let hash: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    let head =
        format!("HTTP/1.1 200 -\r\nX-Repo-Commit: {commit}\r\nETag: \"{hash}\"\r\nConnection: close\r\n");
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", content.len()).as_bytes())?;
    if first.starts_with("GET") { stream.write_all(content) } else { Ok(()) }
}

#[test]
fn a_named_model_is_loaded_once_with_its_licence_and_then_found() {
    let place = Place::new();
    place.photo("china.jpg", "a.jpg");
    let (url, requests) = serve("open_clip_model.safetensors", std::fs::read(&place.model).unwrap());
    let run = |args: &[&str]| {
        let mut command = place.command(args);
        command.env("HF_ENDPOINT", &url).env_remove("HF_HUB_OFFLINE").env_remove("MOBILECLIP_MODEL");
        for proxy in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(proxy);
        }
        Ran::of(command.output().unwrap())
    };
    let ran = run(&["download", "MobileCLIP2-S0"]).ends(0);
    ran.says(&["open_clip_model.safetensors", "timm/MobileCLIP2-S0-OpenCLIP", "licence apple-amlr"]);
    let path = ran.out.trim_end();
    assert_eq!(std::fs::read(path).unwrap(), std::fs::read(&place.model).unwrap());

    let line = run(&["models", "--json"]).ends(0).lines().remove(0);
    assert_eq!((&line["name"], &line["is_cached"]), (&"MobileCLIP2-S0".into(), &true.into()));
    // The default model, without asking anybody.
    let before = requests.load(Ordering::Relaxed);
    run(&["classify", "a.jpg", "--labels", "cat,dog", "--variant", TINY]).ends(0);
    assert_eq!(requests.load(Ordering::Relaxed), before);
    // The download command asks for news, and loads nothing that is here.
    let again = run(&["download", "--quiet", "MobileCLIP2-S0", "MobileCLIP2-S9"]).ends(1);
    assert_eq!(again.out, ran.out);
    assert_eq!(again.err.lines().count(), 1, "{}", again.err);
    again.says(&["MobileCLIP2-S9"]);
}
