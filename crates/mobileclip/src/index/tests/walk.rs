//! What is a photo, and in which order.

use super::*;

fn names(root: &Path, walk: &Walk) -> Vec<String> {
    walk.photos.iter().map(|found| name_in(root, &found.path)).collect()
}

#[test]
fn photos_are_known_by_extension_and_come_sorted() {
    let mut place = Place::new();
    for name in [
        "b.JPG",
        "a.webp",
        "c/d.tiff",
        "c/a.Gif",
        "c.jpeg",
        "note.txt",
        "jpg",
        ".hidden.jpg",
        ".git/x.png",
        "x.jpg.tmp",
    ] {
        place.put(name, name.as_bytes());
    }
    let walk = find_photos(&[place.root()]).unwrap();
    assert_eq!(names(&place.root(), &walk), ["a.webp", "b.JPG", "c/a.Gif", "c/d.tiff", "c.jpeg"]);
    assert_eq!(walk.photos[0].stamp.size, 6);
    assert!(walk.failed.is_empty());
}

#[test]
fn roots_keep_their_order_and_may_overlap_or_be_files() {
    let mut place = Place::new();
    for name in ["a/1.jpg", "b/2.jpg", "b/c/3.jpg", "other.data"] {
        place.put(name, name.as_bytes());
    }
    let root = place.root();
    let roots = [root.join("other.data"), root.join("b/c"), root.clone(), root.join("a")];
    let walk = find_photos(&roots).unwrap();
    assert_eq!(names(&root, &walk), ["other.data", "b/c/3.jpg", "a/1.jpg", "b/2.jpg"]);
}

#[test]
fn folders_may_nest_deeply() {
    let place = Place::new();
    let mut deep = place.root();
    (0..500).for_each(|_| deep.push("d"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("x.png"), "x").unwrap();
    assert_eq!(find_photos(&[place.root()]).unwrap().photos.len(), 1);
}

#[cfg(unix)]
mod links {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn loops_end_and_nothing_is_listed_twice() {
        let mut place = Place::new();
        place.put("z/photo.jpg", b"photo");
        let root = place.root();
        symlink(&root, root.join("z/up")).unwrap();
        symlink(root.join("z"), root.join("a")).unwrap();
        symlink(root.join("z/photo.jpg"), root.join("again.jpg")).unwrap();
        symlink("self", root.join("self")).unwrap();
        let walk = find_photos(std::slice::from_ref(&root)).unwrap();
        assert_eq!(names(&root, &walk), ["z/photo.jpg"]);
        assert_eq!(walk.unknown, [root.join("self")]);
    }

    #[test]
    fn links_out_of_the_root_are_followed_by_one_way() {
        let mut place = Place::new();
        place.put("1.jpg", b"one");
        let far = place.folder.path().join("far");
        fs::create_dir_all(far.join("sub")).unwrap();
        fs::write(far.join("sub/2.jpg"), "two").unwrap();
        let root = place.root();
        symlink(far.join("sub"), root.join("m")).unwrap();
        symlink(&far, root.join("k")).unwrap();
        let walk = find_photos(std::slice::from_ref(&root)).unwrap();
        assert_eq!(names(&root, &walk), ["1.jpg", "k/sub/2.jpg"]);
    }

    #[test]
    fn a_dangling_link_is_reported_if_it_is_called_like_a_photo() {
        let place = Place::new();
        symlink("nowhere", place.root().join("x.jpg")).unwrap();
        symlink("nowhere", place.root().join("y")).unwrap();
        let walk = find_photos(&[place.root()]).unwrap();
        assert_eq!(
            walk.failed.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>(),
            [place.root().join("x.jpg")]
        );
        assert_eq!(walk.unknown.len(), 2);
    }

    #[test]
    fn what_is_no_regular_file_is_passed_by() {
        let place = Place::new();
        // Reading a socket or a pipe would wait for ever.
        let _socket = std::os::unix::net::UnixListener::bind(place.root().join("pipe.jpg")).unwrap();
        assert!(find_photos(&[place.root()]).unwrap().photos.is_empty());
        assert!(find_photos(&[place.root().join("pipe.jpg")]).is_err());
    }
}
