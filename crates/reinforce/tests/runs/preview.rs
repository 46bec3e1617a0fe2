//! Pages to look at, sets that are chosen, and the teachers asked again, in every packing.

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::common::{PHOTOS, Place, member, photo, read, sample, write};
use mobileclip_reinforce::{
    Captions, Output, Packing, Regex, contact_sheet, recorded_augmentations, run, verify,
};
use mobileclip_shards::{Format, Reinforcement, ReinforcementSpec};

fn count(page: &str, part: &str) -> usize {
    page.matches(part).count()
}

#[test]
fn a_page_shows_pictures_augmentations_captions_and_cosines() {
    let place = Place::new();
    let odd = photo("<b>odd", PHOTOS[0]).with(vec![member("txt", "<script>alert(\"1\")</script> & 'more'")]);
    let none = sample("none", vec![member("txt", "no picture")]);
    write(&place.path("in/0.tar"), &[odd, none, photo("c", PHOTOS[1])]);
    place.run(&place.stage(), "out").unwrap();
    let shards = [place.path("out/0.tar"), place.path("out/1.tar")];
    let page = contact_sheet(&shards, 4, &Captions::Text, &[]).unwrap();
    assert_eq!(count(&page, "<section>"), 4);
    // A picture and three augmentations of three samples.
    assert_eq!(count(&page, "<img "), 3 * 4);
    assert_eq!(count(&page, "src=\"data:image/jpeg;base64,"), 3 * 4);
    assert!(!page.contains("<script") && !page.contains("<b>") && count(&page, "http") == 0);
    assert!(page.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;more&#39;"));
    assert!(page.contains("has no `jpg, png or webp`"));
    assert!(page.contains("<span class=\"soft\">syn_text_a</span> tea"));
    // The cosines of the first augmentation and of the caption, of each teacher.
    let first = &read(&shards[0])[0];
    let spec = ReinforcementSpec { teacher_dims: vec![16, 8], ..ReinforcementSpec::default() };
    let found = Reinforcement::read(first, 1, &spec).unwrap();
    let text = found.text_embeddings.row(0);
    let cosine = |row: usize, part: std::ops::Range<usize>| -> f32 {
        found.image_embeddings.row(row)[part.clone()].iter().zip(&text[part]).map(|(a, b)| a * b).sum()
    };
    let shown = format!("<figcaption>{:.3} {:.3}</figcaption>", cosine(0, 0..16), cosine(0, 16..24));
    assert!(page.contains(&shown), "{shown}");
    let mean = |part: std::ops::Range<usize>| (0..3).map(|row| cosine(row, part.clone())).sum::<f32>() / 3.0;
    assert!(page.contains(&format!("<td>{:.3}</td><td>{:.3}</td></tr>", mean(0..16), mean(16..24))));
    // What no teacher has seen has its picture and caption.
    let plain = contact_sheet(&place.inputs(), 10, &Captions::Text, &[]).unwrap();
    assert_eq!((count(&plain, "<section>"), count(&plain, "<img ")), (5, 4));
    // Without config.json somebody must say how wide the teachers' parts are; wrong widths are told.
    std::fs::rename(place.path("out/config.json"), place.path("elsewhere.json")).unwrap();
    let given = contact_sheet(&shards[..1], 1, &Captions::Text, &[16, 8]).unwrap();
    assert!(given.contains(&shown));
    assert!(contact_sheet(&shards[..1], 1, &Captions::Text, &[16]).unwrap().contains("24 columns"));
}

#[test]
fn only_the_chosen_sets_are_embedded() {
    let place = Place::new();
    let mut stage = place.stage();
    let spec = ReinforcementSpec { teacher_dims: vec![16, 8], ..ReinforcementSpec::default() };
    for (pattern, expected) in [
        ("syn_text_b", vec!["syn_text_b"]),
        ("text_b", vec![]),
        ("syn_text.*", vec!["syn_text_a", "syn_text_b"]),
    ] {
        stage.synthetic = Some(Regex::new(pattern).unwrap());
        let folder = format!("out {pattern}");
        place.run(&stage, &folder).unwrap();
        let rich = &read(&place.path(&format!("{folder}/1.tar")))[0];
        let found = Reinforcement::read(rich, 1, &spec).unwrap();
        assert_eq!(found.synthetic.iter().map(|set| &set.name[..]).collect::<Vec<_>>(), expected);
        // The captions stay.
        assert_eq!(rich.json::<serde_json::Map<String, serde_json::Value>>("syn.json").unwrap().len(), 2);
    }
    stage.synthetic = None;
    let error = place.run(&stage, "out text_b").unwrap_err().to_string();
    assert!(error.contains("another `synthetic`"), "{error}");
}

#[test]
fn shards_of_every_form_are_written_and_verified() {
    let place = Place::new();
    let stage = place.stage();
    let forms = [
        (Format::Tar, Packing::Gzip, ".tar.gz"),
        (Format::JsonLines, Packing::None, ".jsonl"),
        (Format::JsonLines, Packing::Zstd, ".jsonl.zst"),
    ];
    for (format, packing, ending) in forms {
        let output = Output { format, packing, ..place.output(ending) };
        run(&stage, &place.inputs(), &output, &mut |_| ControlFlow::Continue(())).unwrap();
        let shards: Vec<PathBuf> = (0..2).map(|i| place.path(&format!("{ending}/{i}{ending}"))).collect();
        let augmentations = recorded_augmentations(&shards[0]).unwrap().unwrap();
        let verified = |n| verify(&shards, &stage.teachers, &augmentations, &Captions::Text, n).unwrap();
        let all = verified(100);
        assert_eq!((all.samples, all.images.count, all.faults.total()), (7, 7 * 3 * 2, 0), "{ending}");
        assert_eq!(verified(3).samples, 3);
        assert!(all.is_within(0.999_999).unwrap());
    }
}
