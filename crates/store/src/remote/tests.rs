use std::io::{Read, Write};
use std::sync::Arc;

use super::bucket::Bucket;
use super::server::{Fault, Server};
use super::*;
use crate::Place;
use crate::draft::Draft;

fn object(server: &Server, key: &str) -> Object {
    Object { bucket: Bucket::of_server(&server.url, "shards"), key: Key::parse(key).unwrap() }
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn all(mut source: Source) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn reading_goes_on_where_the_connection_was_cut() {
    let server = Server::start(true);
    // Three ranges: 1, 2 and a part of 4 MiB.
    let bytes = noise(5 << 20);
    server.put("a.tar", &bytes);
    let a = object(&server, "a.tar");
    assert_eq!(all(a.open().unwrap()).unwrap(), bytes);
    server.requests();
    let faults = [
        Fault::None,
        Fault::Cut(1000),
        Fault::Status(500),
        Fault::Lost,
        Fault::Cut(500_000),
        Fault::Status(503),
    ];
    server.faults(&faults);
    let source = a.open().unwrap();
    assert_eq!(source.size(), bytes.len() as u64);
    assert!(all(source).unwrap() == bytes);
    let requests = server.requests();
    assert_eq!(requests.iter().filter(|request| request.starts_with("HEAD")).count(), 1);
    assert_eq!(requests.len(), 1 + 3 + 5);
    server.put("empty.tar", b"");
    assert_eq!(all(object(&server, "empty.tar").open().unwrap()).unwrap(), b"");
}

#[test]
fn an_object_that_changes_while_it_is_read_is_an_error() {
    let server = Server::start(true);
    server.put("a.tar", &noise(5 << 20));
    let mut source = object(&server, "a.tar").open().unwrap();
    let mut first = [0; 10];
    source.read_exact(&mut first).unwrap();
    // The second range may be on its way; the third is not.
    server.put("a.tar", &[1; 5 << 20]);
    let error = all(source).unwrap_err().to_string();
    assert_eq!(error, "has changed while it was read");
}

#[test]
fn conditional_puts_tell_their_own_object_from_anothers() {
    let server = Server::start(true);
    let lease = object(&server, "work/0.lease");
    // The first is done, but not answered; the client's next attempt finds an object, which is its own.
    server.faults(&[Fault::Lost]);
    let mine = lease.put_new(b"mine 0").unwrap().expect("there was none");
    assert!(lease.put_new(b"another's").unwrap().is_none());
    let Version(Seen::Object(tag)) = &mine else { panic!("a version on a store") };
    server.faults(&[Fault::Status(500), Fault::Lost]);
    let renewed = lease.replace_if(b"mine 1", tag).unwrap().expect("nobody else has it");
    assert!(lease.replace_if(b"too late", tag).unwrap().is_none());
    assert_eq!(lease.read().unwrap(), Some((b"mine 1".to_vec(), renewed)));
    lease.delete().unwrap();
    lease.delete().unwrap();
    assert_eq!(lease.read().unwrap(), None);
    assert!(lease.replace_if(b"gone", tag).unwrap().is_none());
}

#[test]
fn drafts_appear_whole_or_not_at_all() {
    let server = Server::start(true);
    // In one request, and in parts, of which some go wrong.
    for (key, bytes) in [("small.tar", noise(1000)), ("large.tar", noise((16 << 20) + 5))] {
        let draft = || {
            let mut draft = Draft::remote(object(&server, key)).unwrap();
            draft.write_all(&bytes).unwrap();
            draft
        };
        drop(draft());
        drop(draft().finish().unwrap());
        assert_eq!(server.get(key), None);
        server.faults(&[Fault::Status(500), Fault::Lost, Fault::Lost, Fault::Status(503)]);
        let finished = draft().finish().unwrap();
        assert_eq!(finished.bytes(), bytes.len() as u64);
        assert!(finished.publish_new().unwrap(), "{key}");
        assert!(server.get(key).unwrap() == bytes);
        server.put(key, b"another's");
        assert!(!draft().finish().unwrap().publish_new().unwrap());
        assert_eq!(server.get(key).unwrap(), b"another's");
        draft().finish().unwrap().publish().unwrap();
        assert!(server.get(key).unwrap() == bytes);
    }
    // The end of an upload is done and not answered; it cannot be done twice.
    let bytes = noise((16 << 20) + 5);
    let mut draft = Draft::remote(object(&server, "lost.tar")).unwrap();
    draft.write_all(&bytes).unwrap();
    // Two looks, the beginning, two parts, the end.
    server.faults(&[Fault::None, Fault::None, Fault::None, Fault::None, Fault::None, Fault::Lost]);
    assert!(draft.finish().unwrap().publish_new().unwrap());
    assert!(server.get("lost.tar").unwrap() == bytes);
}

#[test]
fn many_are_asked_at_once_or_listed() {
    let server = Server::start(true);
    (0..LISTED_FROM).for_each(|i| server.put(&format!("set/{i:05}.tar"), &noise(i)));
    server.put("set/sub/0.tar", b"");
    let objects: Vec<Object> =
        (0..LISTED_FROM + 1).map(|i| object(&server, "set").join(&format!("{i:05}.tar"))).collect();
    // All are of one bucket, as they are when addresses are parsed.
    let bucket = Arc::clone(&objects[0].bucket);
    let objects: Vec<Object> =
        objects.into_iter().map(|object| Object { bucket: Arc::clone(&bucket), ..object }).collect();
    let sizes = |objects: &[Object]| -> Vec<Option<u64>> {
        let stats = stat_all(&objects.iter().collect::<Vec<_>>()).unwrap();
        stats.into_iter().map(|stat| stat.map(|stat| stat.bytes)).collect()
    };
    let expected: Vec<Option<u64>> = (0..LISTED_FROM as u64).map(Some).chain([None]).collect();
    assert_eq!(sizes(&objects), expected);
    assert_eq!(server.requests().len(), 1);
    let last = &objects[LISTED_FROM - 5..];
    assert_eq!(sizes(last), expected[LISTED_FROM - 5..]);
    assert_eq!(server.requests().iter().filter(|request| request.starts_with("HEAD")).count(), 6);
    let contents = read_all(&last.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(contents[1], Some(noise(LISTED_FROM - 4)));
    assert_eq!(contents[5], None);
    server.faults(&[Fault::Status(500), Fault::Cut(100), Fault::Lost]);
    let listed = object(&server, "set").list().unwrap();
    assert_eq!(listed.len(), LISTED_FROM);
    assert_eq!(listed[7].0, "00007.tar");
}

#[test]
fn what_is_missing_or_forbidden_is_said_in_one_line() {
    let server = Server::start(true);
    let missing =
        Object { bucket: Bucket::of_server(&server.url, "nowhere"), key: Key::parse("a.tar").unwrap() };
    let no_bucket = "there is no bucket `nowhere` on this s3:// store";
    assert_eq!(missing.stat().unwrap_err().to_string(), no_bucket);
    assert_eq!(missing.put(b"").unwrap_err().to_string(), no_bucket);
    assert_eq!(object(&server, "a.tar").open().err().unwrap().kind(), io::ErrorKind::NotFound);
    assert_eq!(object(&server, "a.tar").stat().unwrap(), None);
    server.put("a.tar", b"a");
    server.faults(&[Fault::Status(403)]);
    let error = object(&server, "a.tar").stat().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("403") && error.to_string().contains("AWS_ACCESS_KEY_ID"), "{error}");
    for address in ["s3://", "https://host/a.tar?signature=x", "ftp://host/a.tar"] {
        let error = Place::new(address).unwrap_err().to_string();
        assert!(!error.contains('\n') && error.len() > 20, "{address}: {error}");
    }
}

#[test]
fn web_servers_are_read_with_ranges_and_without() {
    let bytes = noise(3 << 20);
    for has_ranges in [true, false] {
        let server = Server::start(has_ranges);
        // The server takes names as they come.
        server.put("my%20set/0.tar", &bytes);
        let place = Place::new(format!("{}/shards/my%20set/0.tar", server.url)).unwrap();
        server.faults(&[Fault::Status(500), Fault::None, Fault::None, Fault::Cut(1_000_000)]);
        assert!(all(place.open().unwrap()).unwrap() == bytes, "ranges: {has_ranges}");
        assert!(place.put(b"").unwrap_err().to_string().contains("can be read, not written"));
        let folder = Place::new(format!("{}/shards/my%20set", server.url)).unwrap();
        assert_eq!(folder.join("0.tar").stat().unwrap().unwrap().bytes, bytes.len() as u64);
        assert!(folder.list().unwrap_err().to_string().contains("name the files"));
    }
}
