//! Transfers that break, lie, stall or are refused, and what is left in the cache afterwards.

mod server;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mobileclip_hub::{Error, Hub, Progress, Repo};
use server::{Files, Reply, Request, Server, hub, sha256, tree};

const FILE: &str = "model.safetensors";

fn content() -> Vec<u8> {
    (0..200_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

fn repo() -> Repo {
    Repo::main("org/toy").unwrap()
}

/// A hub whose only large file comes from a store that answers as `answer` says for its n-th request.
fn with_store(answer: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> (Server, Server) {
    let count = AtomicUsize::new(0);
    let store = Server::start(move |request| answer(count.fetch_add(1, Ordering::SeqCst), request));
    let files = Files::new('1', &store.url, &[(FILE, &content())]);
    (Server::start(move |request| files.answer(request)), store)
}

fn load(hub: &Hub) -> Result<Vec<u8>, Error> {
    hub.file(&repo(), FILE, &mut |_| {}).map(|path| std::fs::read(path).unwrap())
}

/// Nothing but the partial file, if any, with its length.
fn partial(home: &Path) -> Option<u64> {
    let blobs = home.join("hub/models--org--toy/blobs");
    let mut found: Vec<_> = std::fs::read_dir(blobs).unwrap().map(Result::unwrap).collect();
    assert!(!home.join("hub/models--org--toy/snapshots").exists());
    assert!(!home.join("hub/models--org--toy/refs").exists());
    let file = found.pop()?;
    assert!(found.is_empty() && file.file_name().to_str().unwrap().ends_with(".mobileclip.incomplete"));
    Some(file.metadata().unwrap().len())
}

#[test]
fn a_cut_transfer_goes_on() {
    let (endpoint, store) = with_store(|n, request| {
        let mut reply = Reply::content(request, &content());
        reply.cut = (n < 7).then_some(20_000);
        reply
    });
    let home = tempfile::tempdir().unwrap();
    assert_eq!(load(&hub(home.path(), &endpoint.url, &[])).unwrap(), content());
    // More breaks than tries are allowed without progress.
    let starts: Vec<_> = store.taken().iter().map(Request::range_start).collect();
    assert_eq!(
        starts,
        [
            None,
            Some(20_000),
            Some(40_000),
            Some(60_000),
            Some(80_000),
            Some(100_000),
            Some(120_000),
            Some(140_000)
        ]
    );
}

#[test]
fn another_process_goes_on() {
    // The first connection brings a part, all further ones nothing, until the second client comes.
    let (endpoint, store) = with_store(|n, request| {
        let mut reply = Reply::content(request, &content());
        reply.cut = match n {
            0 => Some(123_456),
            1..=4 => Some(0),
            _ => None,
        };
        reply
    });
    let home = tempfile::tempdir().unwrap();
    let error = load(&hub(home.path(), &endpoint.url, &[])).unwrap_err();
    assert!(matches!(&error, Error::Interrupted { done: 123_456, total: Some(200_000), .. }), "{error:?}");
    assert!(error.to_string().contains("stopped at 123456 of 200000 bytes"), "{error}");
    assert_eq!(partial(home.path()), Some(123_456));
    assert_eq!(store.taken().len(), 5);

    let mut reports = Vec::new();
    let path = hub(home.path(), &endpoint.url, &[]).file(&repo(), FILE, &mut |p| {
        if let Progress::Bytes { done, total, .. } = p {
            reports.push((done, total));
        }
    });
    assert_eq!(std::fs::read(path.unwrap()).unwrap(), content());
    assert_eq!(store.taken()[0].range_start(), Some(123_456));
    assert_eq!(reports.first(), Some(&(123_456, Some(200_000))));
    assert_eq!(reports.last(), Some(&(200_000, Some(200_000))));
    assert!(reports.is_sorted());
}

#[test]
fn a_process_that_dies_leaves_what_it_has() {
    let (endpoint, store) = with_store(|_, request| Reply::content(request, &content()));
    let home = tempfile::tempdir().unwrap();
    let client = hub(home.path(), &endpoint.url, &[]);
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        client.file(&repo(), FILE, &mut |p| {
            // Unwinding without the client's doing is as near to a killed process as a test comes.
            if matches!(p, Progress::Bytes { done: 1.., .. }) {
                std::panic::resume_unwind(Box::new(()));
            }
        })
    }));
    assert!(died.is_err());
    let kept = partial(home.path()).unwrap();
    assert!(kept > 0 && kept < 200_000, "{kept}");
    assert_eq!(load(&hub(home.path(), &endpoint.url, &[])).unwrap(), content());
    assert_eq!(store.taken()[1].range_start(), Some(usize::try_from(kept).unwrap()));
}

#[test]
fn damaged_old_bytes_are_loaded_again() {
    for old in [vec![7; 1000], vec![7; 200_000], vec![7; 300_000], content()] {
        let (endpoint, store) = with_store(|_, request| Reply::content(request, &content()));
        let home = tempfile::tempdir().unwrap();
        let blobs = home.path().join("hub/models--org--toy/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        let name = sha256(&content());
        std::fs::write(blobs.join(format!("{name}.mobileclip.incomplete")), &old).unwrap();
        // An older client's file of that kind is not ours to trust or to touch.
        std::fs::write(blobs.join(format!("{name}.incomplete")), b"other").unwrap();
        assert_eq!(load(&hub(home.path(), &endpoint.url, &[])).unwrap(), content());
        let requests = if old == content() { 0 } else { 1 + usize::from(old.len() == 1000) };
        assert_eq!(store.taken().len(), requests, "{} old bytes", old.len());
        assert!(blobs.join(format!("{name}.incomplete")).exists());
        assert!(!blobs.join(format!("{name}.mobileclip.incomplete")).exists());
    }
}

#[test]
fn a_wrong_hash_leaves_nothing() {
    let (endpoint, store) = with_store(|_, _| {
        let mut wrong = content();
        wrong[100_000] ^= 1;
        Reply::new(200).body(&wrong)
    });
    let home = tempfile::tempdir().unwrap();
    let error = load(&hub(home.path(), &endpoint.url, &[])).unwrap_err();
    assert!(
        matches!(&error, Error::WrongHash { expected, .. } if *expected == sha256(&content())),
        "{error:?}"
    );
    assert_eq!(partial(home.path()), None);
    assert_eq!(store.taken().len(), 1);
}

#[test]
fn a_small_file_is_checked_too() {
    let endpoint = Server::start(|request| {
        let files = Files::new('1', "", &[("a.json", b"{}")]);
        let reply = files.answer(request);
        if request.method == "GET" { reply.body(b"[]") } else { reply }
    });
    let home = tempfile::tempdir().unwrap();
    let error = hub(home.path(), &endpoint.url, &[]).file(&repo(), "a.json", &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::WrongHash { .. }), "{error:?}");
    assert_eq!(partial(home.path()), None);
}

#[test]
fn a_wrong_size_leaves_nothing() {
    type Answer = fn(&Request) -> Reply;
    let answers: [(&str, Answer); 4] = [
        ("shorter", |_| Reply::new(200).body(&content()[..1000])),
        ("longer", |_| Reply::new(200).body(&[content(), vec![0; 5]].concat())),
        ("longer, of unknown length", |_| Reply {
            has_no_length: true,
            ..Reply::new(200).body(&[content(), vec![0; 500_000]].concat())
        }),
        ("another whole", |request| match request.range_start() {
            None => Reply { cut: Some(1000), ..Reply::new(200).body(&content()) },
            Some(n) => {
                Reply::new(206).with("Content-Range", format!("bytes {n}-9999/10000")).body(&[0; 9000])
            }
        }),
    ];
    for (what, answer) in answers {
        let (endpoint, _store) = with_store(move |_, request| answer(request));
        let home = tempfile::tempdir().unwrap();
        let error = load(&hub(home.path(), &endpoint.url, &[])).unwrap_err();
        assert!(matches!(error, Error::WrongSize { expected: 200_000, .. }), "{what}: {error:?}");
        assert_eq!(partial(home.path()), None, "{what}");
    }
}

#[test]
fn a_server_without_parts_starts_anew() {
    let (endpoint, store) = with_store(|n, _| {
        let cut = (n == 0).then_some(50_000);
        Reply { cut, ..Reply::new(200).body(&content()) }
    });
    let home = tempfile::tempdir().unwrap();
    assert_eq!(load(&hub(home.path(), &endpoint.url, &[])).unwrap(), content());
    assert_eq!(store.taken()[1].range_start(), Some(50_000), "it was asked for a part");
}

#[test]
fn a_wrong_part_starts_anew() {
    for wrong in [
        Reply::new(206).with("Content-Range", "bytes 0-199999/200000").body(&content()),
        Reply::new(206).body(&content()),
        Reply::new(206).with("Content-Range", "bytes what/ever"),
        Reply::new(416),
    ] {
        let (endpoint, store) = with_store(move |n, request| match n {
            0 => Reply { cut: Some(50_000), ..Reply::content(request, &content()) },
            1 => wrong.clone(),
            _ => Reply::content(request, &content()),
        });
        let home = tempfile::tempdir().unwrap();
        assert_eq!(load(&hub(home.path(), &endpoint.url, &[])).unwrap(), content());
        assert_eq!(store.taken()[2].range_start(), None);
    }
}

#[test]
fn a_connection_that_ends_without_a_length_is_no_end() {
    let (endpoint, store) = with_store(|n, request| {
        let cut = (n == 0).then_some(50_000);
        Reply { has_no_length: true, cut, ..Reply::content(request, &content()) }
    });
    let home = tempfile::tempdir().unwrap();
    assert_eq!(load(&hub(home.path(), &endpoint.url, &[])).unwrap(), content());
    assert_eq!(store.taken()[1].range_start(), Some(50_000));
}

#[test]
fn a_stalled_transfer_is_given_up_and_goes_on() {
    let (endpoint, store) = with_store(|n, request| {
        if n == 0 {
            std::thread::sleep(Duration::from_secs(20));
        }
        Reply::content(request, &content())
    });
    let home = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let client = hub(home.path(), &endpoint.url, &[("HF_HUB_DOWNLOAD_TIMEOUT", "1")]);
    assert_eq!(load(&client).unwrap(), content());
    assert!(start.elapsed() < Duration::from_secs(15));
    assert!(store.taken().len() >= 2);
}

#[test]
fn patience_is_asked_for_and_given() {
    let (endpoint, store) = with_store(|n, request| match n {
        0 => Reply::new(429).with("Retry-After", "0"),
        1 => Reply::new(503),
        2 => Reply::new(408),
        3 => Reply::new(429).with("RateLimit", "\"api\";r=0;t=0"),
        _ => Reply::content(request, &content()),
    });
    let home = tempfile::tempdir().unwrap();
    let mut waits = Vec::new();
    let result = hub(home.path(), &endpoint.url, &[]).file(&repo(), FILE, &mut |p| {
        if let Progress::Waiting { reason, wait, .. } = p {
            waits.push((reason.to_owned(), u64::try_from(wait.as_millis()).unwrap()));
        }
    });
    result.unwrap();
    let expected = [("status 429", 0), ("status 503", 10), ("status 408", 20), ("status 429", 0)];
    assert_eq!(waits, expected.map(|(r, w)| (r.to_owned(), w)));
    assert_eq!(store.taken().len(), 5);
}

#[test]
fn patience_ends() {
    let (endpoint, store) = with_store(|_, _| Reply::new(503));
    let home = tempfile::tempdir().unwrap();
    let error = load(&hub(home.path(), &endpoint.url, &[])).unwrap_err();
    assert!(matches!(error, Error::Interrupted { done: 0, .. }), "{error:?}");
    assert_eq!(store.taken().len(), 5);

    let (endpoint, store) = with_store(|_, _| Reply::new(429).with("Retry-After", "86400"));
    let home = tempfile::tempdir().unwrap();
    let error = load(&hub(home.path(), &endpoint.url, &[])).unwrap_err();
    assert!(error.to_string().contains("status 429"), "{error}");
    assert_eq!(store.taken().len(), 1, "a day is too long to wait");

    let endpoint = Server::start(|_| Reply::new(500).with("X-Error-Message", "down for today"));
    let error = load(&hub(home.path(), &endpoint.url, &[])).unwrap_err();
    assert!(
        matches!(error, Error::Status { status: 500, .. }) && error.to_string().contains("down for today")
    );
    assert_eq!(endpoint.taken().len(), 5);
}

#[test]
fn an_expired_address_is_asked_for_anew() {
    let (endpoint, store) = with_store(|n, request| match n {
        0 => Reply { cut: Some(70_000), ..Reply::content(request, &content()) },
        1 => Reply::new(403),
        _ => Reply::content(request, &content()),
    });
    let home = tempfile::tempdir().unwrap();
    assert_eq!(load(&hub(home.path(), &endpoint.url, &[])).unwrap(), content());
    let asked: Vec<_> = endpoint.taken().iter().map(|r| r.path.clone()).collect();
    let commit = "1".repeat(40);
    let again = format!("/org/toy/resolve/{commit}/{FILE}");
    assert_eq!(asked, [format!("/org/toy/resolve/main/{FILE}"), again], "of the commit that was begun with");
    assert_eq!(store.taken()[2].range_start(), Some(70_000));
}

#[test]
fn redirects_and_the_token() {
    // hub: renamed repository (same server, token stays) -> store (token dropped) -> second store.
    let last = Server::start(|request| Reply::content(request, &content()));
    let url = last.url.clone();
    let store = Server::start(move |r| Reply::new(302).with("Location", format!("{url}{}", r.path)));
    let files = Files::new('1', &store.url, &[(FILE, &content())]);
    let endpoint = Server::start(move |request| match request.path.strip_prefix("/org/old/") {
        Some(rest) => Reply::new(307).with("Location", format!("/org/new/{rest}")),
        None => files.answer(request),
    });
    let home = tempfile::tempdir().unwrap();
    let client = hub(home.path(), &endpoint.url, &[("HF_TOKEN", "hf_secret")]);
    let path = client.file(&Repo::main("org/old").unwrap(), FILE, &mut |_| {}).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content());
    let requests = endpoint.taken();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|r| r.headers["authorization"] == "Bearer hf_secret"));
    for (what, server) in [("store", store), ("second store", last)] {
        let requests = server.taken();
        assert_eq!(requests.len(), 1, "{what}");
        assert!(!requests[0].headers.contains_key("authorization"), "{what}");
    }
}

#[test]
fn redirects_without_end_end() {
    let endpoint = Server::start(|r| Reply::new(302).with("Location", format!("{}x", r.path)));
    let home = tempfile::tempdir().unwrap();
    let error = load(&hub(home.path(), &endpoint.url, &[])).unwrap_err();
    assert!(error.to_string().contains("more than 20 redirects"), "{error}");
    let endpoint = Server::start(|_| Reply::new(302));
    let error = load(&hub(home.path(), &endpoint.url, &[])).unwrap_err();
    assert!(matches!(error, Error::StrangeAnswer { .. }), "{error:?}");
}

#[test]
fn refusals_say_what_to_do() {
    type Check = fn(&Error) -> bool;
    let cases: [(u16, Option<&str>, &[&str], Check); 5] = [
        (403, Some("GatedRepo"), &["is gated", "/org/toy", "HF_TOKEN"], |e| matches!(e, Error::Gated { .. })),
        (401, None, &["private", "HF_TOKEN"], |e| matches!(e, Error::RepositoryNotFound { status: 401, .. })),
        (404, Some("RepoNotFound"), &["no repository org/toy"], |e| {
            matches!(e, Error::RepositoryNotFound { .. })
        }),
        (404, Some("RevisionNotFound"), &["no revision `main`"], |e| {
            matches!(e, Error::RevisionNotFound { .. })
        }),
        (403, None, &["status 403", "no entry"], |e| matches!(e, Error::Status { status: 403, .. })),
    ];
    for (status, code, words, check) in cases {
        let endpoint = Server::start(move |_| {
            let reply = Reply::new(status).with("X-Error-Message", "no entry");
            code.map_or(reply.clone(), |code| reply.with("X-Error-Code", code))
        });
        let home = tempfile::tempdir().unwrap();
        let error = load(&hub(home.path(), &endpoint.url, &[])).unwrap_err();
        assert!(check(&error), "{error:?}");
        let text = error.to_string();
        assert!(words.iter().all(|w| text.contains(w)) && !text.contains('\n'), "{text}");
        assert_eq!(endpoint.taken().len(), 1);
        assert_eq!(tree(&home.path().join("hub")), [""; 0]);
    }
    let endpoint = Server::start(|_| Reply::new(401).with("X-Error-Code", "GatedRepo"));
    let home = tempfile::tempdir().unwrap();
    let text = load(&hub(home.path(), &endpoint.url, &[("HF_TOKEN", "t")])).unwrap_err().to_string();
    assert!(text.contains("does not give access"), "{text}");
}

#[test]
fn strange_answers_write_nothing() {
    let good = || {
        let reply = Reply::new(200).with("X-Repo-Commit", "1".repeat(40));
        reply.with("ETag", format!("\"{}\"", "2".repeat(40)))
    };
    let mut no_commit = good();
    no_commit.headers.remove(0);
    let mut no_hash = good();
    no_hash.headers.remove(1);
    let bad_commit = Reply { headers: vec![("X-Repo-Commit".into(), "../../x".into())], ..good() };
    let bad_hash = no_hash.clone().with("ETag", "\"../../../../etc/x\"");
    for (i, reply) in [no_commit, no_hash, bad_commit, bad_hash, Reply::new(200)].into_iter().enumerate() {
        let endpoint = Server::start(move |_| reply.clone());
        let home = tempfile::tempdir().unwrap();
        let error = load(&hub(home.path(), &endpoint.url, &[])).unwrap_err();
        assert!(matches!(error, Error::StrangeAnswer { .. }), "{i}: {error:?}");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "{i}");
    }
}

#[test]
fn a_silent_hub_is_given_up() {
    let endpoint = Server::start(|_| {
        std::thread::sleep(Duration::from_secs(20));
        Reply::new(200)
    });
    let home = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let error = load(&hub(home.path(), &endpoint.url, &[("HF_HUB_ETAG_TIMEOUT", "1")])).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[test]
fn two_at_once_load_once() {
    let (endpoint, store) = with_store(|_, request| {
        std::thread::sleep(Duration::from_millis(300));
        Reply::content(request, &content())
    });
    let home = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(load(&hub(home.path(), &endpoint.url, &[])).unwrap(), content()));
        }
    });
    assert_eq!(store.taken().len(), 1);
}

#[test]
fn without_locks_the_partial_file_is_private() {
    let (endpoint, _store) = with_store(|n, request| {
        let cut = (n < 5).then_some(if n == 0 { 50_000 } else { 0 });
        Reply { cut, ..Reply::content(request, &content()) }
    });
    let home = tempfile::tempdir().unwrap();
    let lock = format!("hub/.locks/models--org--toy/{}.lock", sha256(&content()));
    std::fs::create_dir_all(home.path().join(lock)).unwrap();
    let client = hub(home.path(), &endpoint.url, &[]);
    assert!(matches!(load(&client), Err(Error::Interrupted { .. })));
    assert_eq!(partial(home.path()), None, "nobody else could go on with it");
    assert_eq!(load(&client).unwrap(), content());
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_says_so() {
    let (endpoint, _store) = with_store(|_, request| Reply::content(request, &content()));
    let home = tempfile::tempdir().unwrap();
    let blobs = home.path().join("hub/models--org--toy/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let partial = blobs.join(format!("{}.mobileclip.incomplete", sha256(&content())));
    std::os::unix::fs::symlink("/dev/full", partial).unwrap();
    let error = load(&hub(home.path(), &endpoint.url, &[])).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
    assert!(error.to_string().contains("no space is left"), "{error}");
}

#[test]
fn a_cache_that_cannot_be_written_says_where() {
    let (endpoint, _store) = with_store(|_, request| Reply::content(request, &content()));
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("hub"), b"a file").unwrap();
    let error = load(&hub(home.path(), &endpoint.url, &[])).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(home.path().to_str().unwrap()) && text.contains("HF_HUB_CACHE"), "{text}");
}

#[test]
fn certificates_come_from_the_named_file() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("ca.pem");
    let with_file = || {
        Hub::from_vars(|name| match name {
            "SSL_CERT_FILE" => Some(path.clone().into()),
            "HF_HOME" => Some(home.path().into()),
            _ => None,
        })
    };
    assert!(with_file().unwrap_err().to_string().contains("SSL_CERT_FILE"), "no such file");
    std::fs::write(&path, "nothing").unwrap();
    assert!(with_file().unwrap_err().to_string().contains("no certificate"));
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n").unwrap();
    assert!(with_file().is_ok());
}
