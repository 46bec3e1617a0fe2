//! `mobileclip convert` and `mobileclip inspect`, end to end.

use crate::common::{Place, TINY, photo};

fn logits(place: &Place, args: &[&str]) -> Vec<f64> {
    let coffee = photo("coffee_444.jpg");
    let fixed = ["classify", coffee.to_str().unwrap(), "--labels", "cat,dog,a cup of coffee", "--json"];
    let args: Vec<&str> = fixed.into_iter().chain(args.iter().copied()).collect();
    let line = place.run_plain(&args).ends(0).lines().remove(0);
    line["scores"].as_array().unwrap().iter().map(|score| score["logit"].as_f64().unwrap()).collect()
}

#[test]
fn a_fused_file_gives_the_same_scores() {
    let place = Place::new();
    let model = place.model.to_str().unwrap();
    place.run(&["convert", model, "fused.safetensors"]).ends(0).says(&["fused.safetensors: ", "MB, tiny"]);
    let expected = logits(&place, &["--variant", TINY]);
    let close =
        |got: &[f64], tolerance: f64| got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < tolerance);
    // The file says itself what it is. Logits are 100 cosines.
    assert!(close(&logits(&place, &["--model", "fused.safetensors"]), 1e-3));
    place.run(&["convert", model, "half.safetensors", "--dtype", "f16"]).ends(0);
    assert!(close(&logits(&place, &["--model", "half.safetensors"]), 1.0));
    let size = |name: &str| std::fs::metadata(place.path(name)).unwrap().len();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &str| std::fs::metadata(place.path(path)).unwrap().permissions().mode();
        std::fs::write(place.path("other"), "").unwrap();
        assert_eq!(mode("fused.safetensors"), mode("other"));
    }
    place.run(&["convert", model, "compact.safetensors", "--compact"]).ends(0);
    assert!(size("half.safetensors") < size("compact.safetensors") * 6 / 10);
    assert!(size("compact.safetensors") < size("fused.safetensors"));
    let exact = logits(&place, &["--model", "fused.safetensors"]);
    assert_eq!(logits(&place, &["--model", "compact.safetensors"]), exact);
    place.run(&["convert", model, "odd name", "--to", "deploy"]).ends(0);
    assert_eq!(size("odd name"), size("fused.safetensors"));
    place
        .run_plain(&["convert", "fused.safetensors", "again"])
        .fails(&["fused.safetensors", "cannot be turned back"]);
}

#[test]
fn nothing_is_overwritten_unasked_and_the_input_never() {
    let place = Place::new();
    let model = place.model.to_str().unwrap();
    let before = std::fs::read(&place.model).unwrap();
    place.run(&["convert", model, "tiny.safetensors"]).fails(&["tiny.safetensors", "--force"]);
    place.run(&["convert", model, "tiny.safetensors", "--force"]).fails(&["is the input itself"]);
    assert_eq!(std::fs::read(&place.model).unwrap(), before);
    place.run(&["convert", model, "a.safetensors"]).ends(0);
    place.run(&["convert", model, "a.safetensors"]).fails(&["is there already", "--force"]);
    place.run(&["convert", model, "a.safetensors", "--force"]).ends(0);
    place.run(&["convert", model, "a.safetensors", "--to", "open-clip"]).fails(&["is a file"]);
    place.run(&["convert", model, ".", "--to", "deploy"]).fails(&["is a folder"]);
    place
        .run(&["convert", model, "nowhere/a.safetensors"])
        .fails(&["nowhere/a.safetensors", "no folder `nowhere`"]);
    place.run(&["convert", model, "folder", "--compact"]).fails(&["--compact is for fused files"]);
    // timm has no such toy.
    place.run(&["convert", model, "folder"]).fails(&["open_clip cannot hold this model", "timm"]);
}

#[test]
fn inspection_tells_what_it_is() {
    let place = Place::new();
    let facts = place.run(&["inspect", "--json"]).ends(0).lines().remove(0);
    assert_eq!(
        (&facts["variant"], &facts["dialect"], &facts["form"]),
        (&"tiny".into(), &"open_clip".into(), &"train".into())
    );
    assert_eq!(facts["context"], 77);
    assert!(facts["text_parameters"].as_u64().unwrap() > 49408 * 16);
    assert!(facts["image_gflop"].as_f64().unwrap() > 0.0);
    assert_eq!(facts["problems"].as_array().unwrap().len(), 0);
    let table = place.run(&["inspect", "tiny.safetensors"]).ends(0).out;
    for words in ["tiny (a toy with", "64 x 64 pixels", "77 tokens", "bilinear", "problems      none"] {
        assert!(table.contains(words), "no `{words}` in {table}");
    }
}
