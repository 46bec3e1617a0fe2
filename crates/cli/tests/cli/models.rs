//! Names of models: `mobileclip models`, `mobileclip download`, and what is said of names that lead nowhere.

use crate::common::Place;

#[test]
fn the_table_lists_names_sizes_and_licences() {
    let place = Place::new();
    let table = place.run_plain(&["models"]).ends(0).out;
    let line = table.lines().find(|line| line.starts_with("MobileCLIP2-S0 ")).unwrap();
    assert!(
        line.contains("74.8 M")
            && line.contains("apple-amlr")
            && line.contains("timm/MobileCLIP2-S0-OpenCLIP"),
        "{line}"
    );
    let lines = place.run_plain(&["models", "--json"]).ends(0).lines();
    assert!(lines.len() > 50);
    assert_eq!((&lines[0]["name"], &lines[0]["is_cached"]), (&"MobileCLIP2-S0".into(), &false.into()));
}

#[test]
fn without_a_hub_the_local_way_is_named() {
    let place = Place::new();
    place.run_plain(&["inspect", "MobileCLIP2-S0"]).fails(&[
        "MobileCLIP2-S0",
        "HF_HUB_OFFLINE",
        "--model PATH",
    ]);
    let mut command = place.command(&["classify", "a.jpg", "--labels", "cat"]);
    command.env_remove("MOBILECLIP_MODEL");
    let ran = crate::common::Ran::of(command.output().unwrap());
    ran.fails(&["MobileCLIP2-S0", "--model PATH"]);
    place.run_plain(&["download", "MobileCLIP2-S0"]).fails(&["HF_HUB_OFFLINE"]);
}

#[test]
fn names_that_lead_nowhere_are_met_with_the_nearest() {
    let place = Place::new();
    place.run_plain(&["inspect", "MobileCLIP2-S5"]).fails(&[
        "MobileCLIP2-S5",
        "MobileCLIP2-S",
        "mobileclip models",
    ]);
    place.run_plain(&["inspect", "ViT-L-14"]).fails(&["ViT-L-14:openai"]);
    place.run_plain(&["inspect", "./nothing.pt"]).fails(&["./nothing.pt", "No such file"]);
    place.run_plain(&["inspect", "nothing.pt"]).fails(&["nothing.pt", "no file or folder"]);
    place
        .run_plain(&["inspect", "checkpoints/nothing.pt"])
        .fails(&["checkpoints/nothing.pt", "no file or folder"]);
}
