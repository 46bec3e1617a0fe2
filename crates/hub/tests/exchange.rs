//! The steps of `golden/hub/exchange.json` against the same answers: the reference's cache and ours must be alike after
//! each. The reference's requests may be fewer or more; what matters in them (the token, the range) is compared.

mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use mobileclip_hub::{Error, Repo};
use serde_json::Value;
use server::{Files, Reply, Server, hub, sha256, tree};

const LARGE: &str = "sub/open_clip_model.safetensors";
const SMALL: &str = "open_clip_config.json";

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().into()).collect()
}

/// What the steps' server was made of, as the goldens' script says.
fn large_content() -> Vec<u8> {
    (0..300_000_u32).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect()
}

#[test]
fn steps_leave_the_reference_s_cache() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/hub/exchange.json");
    let exchange: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let large = large_content();
    assert_eq!(sha256(&large), exchange["large_sha256"].as_str().unwrap());
    let small = strings(&exchange["small_text"]);

    // The store, which can cut the next answer.
    let cut = Arc::new(Mutex::new(None));
    let store = {
        let (cut, large) = (Arc::clone(&cut), large.clone());
        Server::start(move |request| {
            let mut reply = Reply::content(request, &large);
            reply.cut = cut.lock().unwrap().take();
            reply
        })
    };
    let commits: BTreeMap<char, Files> = [('1', &small[0]), ('2', &small[1])]
        .into_iter()
        .map(|(c, text)| (c, Files::new(c, &store.url, &[(SMALL, text.as_bytes()), (LARGE, &large)])))
        .collect();
    let main = Arc::new(Mutex::new('1'));
    let endpoint = {
        let main = Arc::clone(&main);
        Server::start(move |request| {
            if request.path.starts_with("/org/gated") {
                return Reply::new(401).with("X-Error-Code", "GatedRepo");
            }
            if request.path.starts_with("/org/gone") {
                return Reply::new(404).with("X-Error-Code", "RepoNotFound");
            }
            let asked = request.path.split('/').nth(4).and_then(|r| r.chars().next()).unwrap();
            let commit = if asked.is_ascii_digit() { asked } else { *main.lock().unwrap() };
            commits[&commit].answer(request)
        })
    };

    let home = tempfile::tempdir().unwrap();
    let token = [("HF_TOKEN", "hf_secret")];
    let online = hub(home.path(), &endpoint.url, &token);
    let offline = hub(home.path(), &endpoint.url, &[token[0], ("HF_HUB_OFFLINE", "1")]);
    let cache = online.cache_folder().to_owned();
    assert_eq!(cache, home.path().join("hub"));

    let steps = exchange["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 14);
    for step in steps {
        let what = step["step"].as_str().unwrap();
        if what == "main has moved, the file changed" {
            *main.lock().unwrap() = '2';
        }
        if step["arguments"]["force_download"].as_bool() == Some(true) {
            // This client has no such argument: whoever distrusts a blob deletes it.
            std::fs::remove_file(cache.join("models--org--toy/blobs").join(sha256(&large))).unwrap();
            *cut.lock().unwrap() = Some(100_000);
        }
        let local_only = step["arguments"]["local_files_only"].as_bool() == Some(true);
        let client = if local_only { &offline } else { &online };
        let revision = step["arguments"]["revision"].as_str().unwrap_or("main");
        let repo = Repo::new(step["repo"].as_str().unwrap(), revision).unwrap();
        let result = client.file(&repo, step["file"].as_str().unwrap(), &mut |_| {});

        let expected = step["result"].as_str().unwrap();
        match (&result, expected) {
            (Ok(path), _) => assert_eq!(path, &cache.join(expected), "{what}"),
            (Err(Error::FileNotFound { .. }), "error: RemoteEntryNotFoundError")
            | (Err(Error::Offline { .. }), "error: LocalEntryNotFoundError")
            | (Err(Error::Gated { .. }), "error: GatedRepoError")
            | (Err(Error::RepositoryNotFound { .. }), "error: RepositoryNotFoundError")
            | (Err(Error::RevisionNotFound { .. }), "error: RevisionNotFoundError") => {}
            _ => panic!("{what}: {result:?} instead of {expected}"),
        }
        if let Ok(path) = &result {
            let content = std::fs::read(path).unwrap();
            let current = usize::from(*main.lock().unwrap() == '2');
            assert!(content == large || content == small[current].as_bytes(), "{what}");
        }
        let mut expected_tree = strings(&step["cache_after"]);
        expected_tree.retain(|l| !l.starts_with("CACHEDIR.TAG") && !l.starts_with(".locks/"));
        expected_tree.sort();
        assert_eq!(tree(&cache), expected_tree, "{what}");

        let (to_hub, to_store) = (endpoint.taken(), store.taken());
        for request in &to_hub {
            assert_eq!(request.headers["authorization"], "Bearer hf_secret", "{what}");
            assert_eq!(request.headers["accept-encoding"], "identity", "{what}");
        }
        for request in &to_store {
            assert!(!request.headers.contains_key("authorization"), "{what}: the token stays behind");
        }
        let methods = |to: &str| -> Vec<String> {
            let all = step["requests"].as_array().unwrap().iter().filter(|r| r["to"] == to);
            all.map(|r| format!("{} {}", r["method"].as_str().unwrap(), r["path"].as_str().unwrap()))
                .collect()
        };
        let made =
            |r: &[server::Request]| r.iter().map(|r| format!("{} {}", r.method, r.path)).collect::<Vec<_>>();
        assert_eq!(made(&to_hub), methods("hub"), "{what}");
        assert_eq!(made(&to_store), methods("store"), "{what}");
        if step["arguments"]["force_download"].as_bool() == Some(true) {
            // The reference goes on after whole chunks of its own; this client after every byte.
            assert_eq!(to_store[1].range_start(), Some(100_000), "{what}");
        }
    }
}
