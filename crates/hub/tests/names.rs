//! Names to folders: which files are taken, what the cache answers alone, and what is said when nothing helps.

mod server;

use std::path::Path;

use mobileclip_hub::{CONFIG_FILE, Error, Progress, Resolved, WEIGHT_FILES};
use server::{Files, Reply, Request, Server, hub, sha256, tree};

const NAME: &str = "MobileCLIP2-S0";
const CONFIG: &[u8] = b"{\"model_cfg\": {}}\n";

fn weights(seed: u8) -> Vec<u8> {
    vec![seed; 5000]
}

/// Serves any repository with these files at commit 111….
fn serve(files: &[(&str, &[u8])]) -> (Server, Server) {
    let contents: Vec<Vec<u8>> = files.iter().map(|(_, c)| c.to_vec()).collect();
    let store = Server::start(move |request| {
        let wanted = request.path[1..].split('?').next().unwrap();
        let content = contents.iter().find(|c| sha256(c) == wanted).unwrap();
        Reply::content(request, content)
    });
    let files = Files::new('1', &store.url, files);
    (Server::start(move |request| files.answer(request)), store)
}

fn asked(server: &Server) -> Vec<String> {
    server.taken().iter().map(|r: &Request| format!("{} {}", r.method, r.path)).collect()
}

fn name_of(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn a_name_becomes_a_folder_once() {
    let (endpoint, store) = serve(&[
        (CONFIG_FILE, CONFIG),
        ("open_clip_model.safetensors", &weights(1)),
        ("open_clip_pytorch_model.bin", &weights(2)),
    ]);
    let home = tempfile::tempdir().unwrap();
    let client = hub(home.path(), &endpoint.url, &[]);
    assert_eq!(client.cached(NAME).unwrap(), None);
    assert!(endpoint.taken().is_empty(), "`cached` asks nobody");

    let mut begun = Vec::new();
    let resolved = client.resolve("mobileclip2-s0", &mut |p| {
        if let Progress::Begin { file, total, repo, licence, page } = p {
            begun.push(format!("{file} {total:?} {repo} {licence:?} {page}"));
        }
    });
    let resolved = resolved.unwrap();
    let commit = "1".repeat(40);
    let folder = home.path().join("hub/models--timm--MobileCLIP2-S0-OpenCLIP/snapshots").join(&commit);
    let page = format!("{}/timm/MobileCLIP2-S0-OpenCLIP", endpoint.url);
    assert_eq!(
        begun,
        [
            format!("{CONFIG_FILE} Some(18) timm/MobileCLIP2-S0-OpenCLIP Some(\"apple-amlr\") {page}"),
            format!(
                "open_clip_model.safetensors Some(5000) timm/MobileCLIP2-S0-OpenCLIP Some(\"apple-amlr\") {page}"
            ),
        ]
    );
    let Resolved { dir, config, weights: file, commit: at, known, .. } = &resolved;
    assert_eq!((dir, at), (&folder, &commit));
    assert_eq!(config.as_deref(), Some(folder.join(CONFIG_FILE).as_path()));
    assert_eq!(std::fs::read(file).unwrap(), weights(1));
    assert_eq!(known.unwrap().tag, Some("dfndr2b"));
    assert_eq!(store.taken().len(), 1);

    endpoint.taken();
    assert_eq!(client.cached(NAME).unwrap().as_ref(), Some(&resolved));
    assert_eq!(asked(&endpoint), [""; 0]);
    assert_eq!(client.resolve(NAME, &mut |_| {}).unwrap(), resolved);
    let head = format!("HEAD /timm/MobileCLIP2-S0-OpenCLIP/resolve/main/{CONFIG_FILE}");
    assert_eq!(asked(&endpoint), [head], "the same commit: nothing else is asked");
    let offline = hub(home.path(), &endpoint.url, &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(offline.resolve(NAME, &mut |_| {}).unwrap(), resolved);
    assert_eq!(asked(&endpoint), [""; 0]);
}

#[test]
fn the_next_name_is_asked_for_only_after_a_404() {
    for (i, taken) in WEIGHT_FILES.iter().enumerate() {
        let (endpoint, _store) = serve(&[(CONFIG_FILE, CONFIG), (taken, &weights(1))]);
        let home = tempfile::tempdir().unwrap();
        let client = hub(home.path(), &endpoint.url, &[]);
        let resolved = client.resolve("hf-hub:org/toy", &mut |_| {}).unwrap();
        assert_eq!(name_of(&resolved.weights), *taken);
        let heads = asked(&endpoint).into_iter().filter(|r| r.starts_with("HEAD")).count();
        assert_eq!(heads, 1 + i + 1);
        // The absent ones are remembered, so the cache alone is sure.
        assert_eq!(client.cached("hf-hub:org/toy").unwrap(), Some(resolved));
    }
    for status in [500, 403, 401] {
        let home = tempfile::tempdir().unwrap();
        let files = Files::new('1', "", &[(CONFIG_FILE, CONFIG), ("open_clip_pytorch_model.bin", b"evil")]);
        let endpoint = Server::start(move |request| match request.path.ends_with(".safetensors") {
            true => Reply::new(status),
            false => files.answer(request),
        });
        let error = hub(home.path(), &endpoint.url, &[]).resolve(NAME, &mut |_| {}).unwrap_err();
        assert!(error.is_out_of_reach(), "{error:?}");
        assert!(asked(&endpoint).iter().all(|r| !r.contains(".bin")), "{status}");
    }
}

#[test]
fn a_download_that_breaks_is_no_reason_to_take_the_next_file() {
    let large = weights(1);
    let files = Files::new(
        '1',
        "http://127.0.0.1:1",
        &[(CONFIG_FILE, CONFIG), (WEIGHT_FILES[0], &large), (WEIGHT_FILES[2], b"x")],
    );
    let endpoint = Server::start(move |request| files.answer(request));
    let home = tempfile::tempdir().unwrap();
    let client = hub(home.path(), &endpoint.url, &[]);
    let error = client.resolve(NAME, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
    assert_eq!(client.cached(NAME).unwrap(), None);
    assert!(!tree(client.cache_folder()).iter().any(|l| l.contains("refs/")), "no half a model behind a ref");
}

#[test]
fn the_authors_own_files() {
    let (endpoint, _store) = serve(&[("mobileclip_s0.pt", &weights(3)), ("README.md", b"x")]);
    let home = tempfile::tempdir().unwrap();
    let client = hub(home.path(), &endpoint.url, &[]);
    let resolved = client.resolve("MobileCLIP-S0", &mut |_| {}).unwrap();
    assert_eq!((name_of(&resolved.weights), resolved.config.as_ref()), ("mobileclip_s0.pt", None));
    assert_eq!(client.cached("mobileclip-s0").unwrap(), Some(resolved));
    let requests = asked(&endpoint);
    assert_eq!(requests.len(), 2, "config and weights: {requests:?}");

    // A file whose name is not known is found by listing.
    let (endpoint, _store) =
        serve(&[("mobileclip_s3.pt", &weights(4)), ("README.md", b"x"), ("old/a.pt", b"x")]);
    let client = hub(home.path(), &endpoint.url, &[]);
    let resolved = client.resolve("MobileCLIP-S3", &mut |_| {}).unwrap();
    assert_eq!(name_of(&resolved.weights), "mobileclip_s3.pt");
    assert_eq!(client.cached("MobileCLIP-S3").unwrap(), Some(resolved.clone()));
    let offline = hub(home.path(), &endpoint.url, &[("HF_HUB_OFFLINE", "yes")]);
    assert_eq!(offline.resolve("MobileCLIP-S3", &mut |_| {}).unwrap(), resolved);
}

#[test]
fn weights_that_cannot_be_told() {
    let home = tempfile::tempdir().unwrap();
    let (endpoint, _store) = serve(&[("a.pt", &weights(1)), ("b.bin", &weights(2))]);
    let error = hub(home.path(), &endpoint.url, &[]).resolve("hf-hub:org/two", &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("one of a.pt, b.bin"), "{error}");
    let (endpoint, _store) = serve(&[("README.md", b"x")]);
    let error = hub(home.path(), &endpoint.url, &[]).resolve("hf-hub:org/none", &mut |_| {}).unwrap_err();
    assert!(matches!(&error, Error::NoWeights { files, .. } if files.is_empty()), "{error:?}");
    let endpoint = Server::start(|request| match request.path.starts_with("/api") {
        true => Reply::new(200).body(b"{\"siblings\": [{\"rfilename\": \"..\\\\evil.pt\"}]}"),
        false => Reply::new(404).with("X-Error-Code", "EntryNotFound"),
    });
    let error = hub(home.path(), &endpoint.url, &[]).resolve("hf-hub:org/evil", &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::BadName { .. }), "{error:?}");
    let endpoint = Server::start(|request| match request.path.starts_with("/api") {
        true => Reply::new(200).body(b"<html>"),
        false => Reply::new(404),
    });
    let error = hub(home.path(), &endpoint.url, &[]).resolve("hf-hub:org/html", &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("no list of files"), "{error}");
}

#[test]
fn another_program_s_files_are_not_mistaken() {
    // A transformers user has loaded model.safetensors of the same repository.
    let home = tempfile::tempdir().unwrap();
    let commit = "1".repeat(40);
    let repo = home.path().join("hub/models--org--toy");
    let snapshot = repo.join("snapshots").join(&commit);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(repo.join("refs")).unwrap();
    std::fs::write(repo.join("refs/main"), &commit).unwrap();
    std::fs::write(snapshot.join("model.safetensors"), b"other keys").unwrap();
    std::fs::write(snapshot.join(CONFIG_FILE), CONFIG).unwrap();
    let (endpoint, _store) = serve(&[
        (CONFIG_FILE, CONFIG),
        ("open_clip_model.safetensors", &weights(1)),
        ("model.safetensors", b"other keys"),
    ]);
    let client = hub(home.path(), &endpoint.url, &[]);
    assert_eq!(client.cached("hf-hub:org/toy").unwrap(), None, "it could be that open_clip's file exists");
    let offline = hub(home.path(), &endpoint.url, &[("HF_HUB_OFFLINE", "1")]);
    let resolved = offline.resolve("hf-hub:org/toy", &mut |_| {}).unwrap();
    assert_eq!(name_of(&resolved.weights), "model.safetensors", "offline there is no other");
    let resolved = client.resolve("hf-hub:org/toy", &mut |_| {}).unwrap();
    assert_eq!(name_of(&resolved.weights), "open_clip_model.safetensors");
    assert!(!snapshot.join(CONFIG_FILE).is_symlink(), "what was there stays as it was");
}

#[test]
#[cfg(unix)]
fn a_python_cache_is_read_offline() {
    // Links over two levels (the shared store of newer clients), a folder in the revision's name, a dead link.
    let home = tempfile::tempdir().unwrap();
    let commit = "a".repeat(40);
    let root = home.path().join("hub");
    let repo = root.join("models--org--toy");
    let snapshot = repo.join("snapshots").join(&commit);
    for folder in [&root.join("blobs/XX"), &repo.join("blobs"), &snapshot, &repo.join("refs/refs/pr")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(root.join("blobs/XX/xet"), weights(5)).unwrap();
    let link = |target: &str, at: std::path::PathBuf| std::os::unix::fs::symlink(target, at).unwrap();
    link("../../blobs/XX/xet", repo.join("blobs/big"));
    link("../../blobs/big", snapshot.join("open_clip_pytorch_model.bin"));
    link("../../blobs/gone", snapshot.join("open_clip_model.safetensors"));
    std::fs::write(repo.join("refs/refs/pr/1"), &commit).unwrap();
    let client = hub(home.path(), "http://127.0.0.1:1", &[("HF_HUB_OFFLINE", "1")]);
    for revision in ["refs/pr/1", &commit] {
        let resolved = client.resolve(&format!("hf-hub:org/toy@{revision}"), &mut |_| {}).unwrap();
        assert_eq!(name_of(&resolved.weights), "open_clip_pytorch_model.bin");
        assert_eq!(std::fs::read(&resolved.weights).unwrap(), weights(5));
    }
    let error = client.resolve("hf-hub:org/toy", &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "main was never asked for: {error:?}");
}

#[test]
fn where_the_hub_cannot_be_reached() {
    let home = tempfile::tempdir().unwrap();
    let client = hub(home.path(), "http://127.0.0.1:1", &[]);
    let error = client.resolve(NAME, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("`MobileCLIP2-S0` (timm/") && text.contains("path of a local copy"), "{text}");
    assert!(!text.contains('\n'), "{text}");
    let client = hub(home.path(), "http://127.0.0.1:1", &[("HF_HUB_OFFLINE", "1")]);
    let text = client.resolve(NAME, &mut |_| {}).unwrap_err().to_string();
    assert!(text.contains("HF_HUB_OFFLINE") && text.contains(NAME) && !text.contains('\n'), "{text}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);

    // With a copy in the cache it is taken, and said.
    let (endpoint, _store) = serve(&[(CONFIG_FILE, CONFIG), (WEIGHT_FILES[0], &weights(1))]);
    let resolved = hub(home.path(), &endpoint.url, &[]).resolve(NAME, &mut |_| {}).unwrap();
    for (what, address) in [("nobody", "http://127.0.0.1:1".to_owned()), ("refused", refusing().url)] {
        let mut said = 0;
        let again = hub(home.path(), &address, &[]).resolve(NAME, &mut |p| {
            said += usize::from(matches!(p, Progress::FromCache { .. }));
        });
        assert_eq!((again.unwrap(), said), (resolved.clone(), 1), "{what}");
    }
}

fn refusing() -> Server {
    Server::start(|_| Reply::new(401).with("X-Error-Code", "GatedRepo"))
}

#[test]
fn a_moved_branch_keeps_the_old_commit_until_the_new_one_is_whole() {
    let home = tempfile::tempdir().unwrap();
    let (endpoint, _store) = serve(&[(CONFIG_FILE, CONFIG), (WEIGHT_FILES[0], &weights(1))]);
    let old = hub(home.path(), &endpoint.url, &[]).resolve(NAME, &mut |_| {}).unwrap();
    let new_weights = weights(2);
    let new = [(CONFIG_FILE, b"{}".as_slice()), (WEIGHT_FILES[0], new_weights.as_slice())];
    let files = Files::new('2', "http://127.0.0.1:1", &new);
    let broken = Server::start(move |request| files.answer(request));
    let client = hub(home.path(), &broken.url, &[]);
    assert!(matches!(client.resolve(NAME, &mut |_| {}), Err(Error::Interrupted { .. })));
    assert_eq!(client.cached(NAME).unwrap(), Some(old));
}

#[test]
fn without_links_the_files_themselves_stand_in_the_snapshot() {
    let home = tempfile::tempdir().unwrap();
    let files: [(&str, &[u8]); 2] = [(CONFIG_FILE, CONFIG), (WEIGHT_FILES[0], &weights(1))];
    let (endpoint, store) = serve(&files);
    let no_links = [("HF_HUB_DISABLE_SYMLINKS", "1")];
    let client = hub(home.path(), &endpoint.url, &no_links);
    let resolved = client.resolve(NAME, &mut |_| {}).unwrap();
    let snapshot = format!("models--timm--MobileCLIP2-S0-OpenCLIP/snapshots/{}", "1".repeat(40));
    assert_eq!(
        tree(client.cache_folder()),
        [
            format!("models--timm--MobileCLIP2-S0-OpenCLIP/refs/main (40 bytes: {})", "1".repeat(40)),
            format!("{snapshot}/open_clip_config.json (18 bytes)"),
            format!("{snapshot}/open_clip_model.safetensors (5000 bytes)"),
        ]
    );
    assert_eq!(client.resolve(NAME, &mut |_| {}).unwrap(), resolved);
    assert_eq!(store.taken().len(), 1);

    // A blob that was there before may belong to another snapshot, so it is copied.
    let home = tempfile::tempdir().unwrap();
    hub(home.path(), &endpoint.url, &[]).resolve(NAME, &mut |_| {}).unwrap();
    let moved = Files { commit: "2".repeat(40), ..Files::new('2', &store.url, &files) };
    let endpoint = Server::start(move |request| moved.answer(request));
    let resolved = hub(home.path(), &endpoint.url, &no_links).resolve(NAME, &mut |_| {}).unwrap();
    assert!(!resolved.weights.is_symlink());
    assert_eq!(std::fs::read(&resolved.weights).unwrap(), weights(1));
    let blobs = home.path().join("hub/models--timm--MobileCLIP2-S0-OpenCLIP/blobs");
    assert_eq!(std::fs::read_dir(blobs).unwrap().count(), 2, "both blobs are still there");
}

#[test]
fn a_truncated_file_in_the_cache_is_loaded_again() {
    let home = tempfile::tempdir().unwrap();
    let (endpoint, store) = serve(&[(CONFIG_FILE, CONFIG), (WEIGHT_FILES[0], &weights(1))]);
    let client = hub(home.path(), &endpoint.url, &[]);
    let repo = mobileclip_hub::Repo::main("org/toy").unwrap();
    let path = client.file(&repo, WEIGHT_FILES[0], &mut |_| {}).unwrap();
    let blob = std::fs::canonicalize(&path).unwrap();
    std::fs::OpenOptions::new().write(true).open(blob).unwrap().set_len(10).unwrap();
    assert_eq!(client.file(&repo, WEIGHT_FILES[0], &mut |_| {}).unwrap(), path);
    assert_eq!(std::fs::read(path).unwrap(), weights(1));
    assert_eq!(store.taken().len(), 2);
}
