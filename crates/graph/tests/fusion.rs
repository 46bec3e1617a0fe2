//! The fused graphs: what they compute, and what they look like.

use mobileclip_arch::{Array, Dialect, Manifest, Tower, Variant};
use mobileclip_graph::{Graph, Op};
use mobileclip_testing::compare::assert_close;
use mobileclip_testing::formula::{self, Formula};
use mobileclip_testing::golden;
use mobileclip_testing::toys::{TOYS, toy};

/// Folding in double precision loses nothing; the goldens are stored with nine digits.
const TOLERANCE: f64 = 1e-7;

#[test]
fn fused_toys_give_the_golden_features() {
    for name in TOYS {
        let variant = toy(name);
        if variant.dialect == Dialect::OpenClip {
            let golden = golden::model(&format!("toy/{name}"));
            let weights = Formula::of(&Manifest::of(&variant));
            let image = Graph::trace(&variant, Tower::Image, &weights, &[]);
            let text = Graph::trace(&variant, Tower::Text, &weights, &[]);
            let shape = Tower::Image.input(golden.size.0, golden.size.1);
            for (label, expected) in golden.images.iter().zip(&golden.image_features) {
                let pixels = formula::pixels(label, shape, golden.mean, golden.std);
                let made = image.evaluate(&weights, Array::new(shape, pixels));
                assert_close(
                    &format!("{name} image {label}"),
                    &made[image.output].values,
                    expected,
                    TOLERANCE,
                );
            }
            for (ids, expected) in golden.token_rows.iter().zip(&golden.text_features) {
                let made = text.evaluate(&weights, Array::ids(ids));
                assert_close(&format!("{name} text"), &made[text.output].values, expected, TOLERANCE);
            }
        }
    }
}

#[test]
fn taps_stop_fusion_and_change_nothing() {
    let variant = toy("toy4");
    let weights = Formula::of(&Manifest::of(&variant));
    let scopes = ["visual.trunk.stages.0", "visual.trunk.stages.3.pos_emb", "visual.trunk.final_conv"];
    let plain = Graph::trace(&variant, Tower::Image, &weights, &[]);
    let tapped = Graph::trace(&variant, Tower::Image, &weights, &scopes);
    let shape = variant.input(Tower::Image);
    let pixels = Array::new(shape, formula::pixels("p", shape, [0.0; 3], [1.0; 3]));
    let (a, b) = (plain.evaluate(&weights, pixels.clone()), tapped.evaluate(&weights, pixels.clone()));
    assert_close("features", &b[tapped.output].values, &a[plain.output].values, 1e-12);
    let unfused = Graph::trace_unfused(&variant, Tower::Image, &weights, &scopes);
    let c = unfused.evaluate(&weights, pixels);
    for scope in scopes {
        let (fused, plain) = (tapped.tap(scope).unwrap(), unfused.tap(scope).unwrap());
        assert_close(scope, &b[fused].values, &c[plain].values, 1e-12);
    }
}

#[test]
fn fusion_leaves_no_affine_no_sum_of_branches_and_no_lone_nonlinearity() {
    for variant in mobileclip_arch::variants().iter().filter(|v| v.is_convolutional()) {
        let graph = Graph::trace(variant, Tower::Image, &Formula::of(&Manifest::of(variant)), &[]);
        for node in &graph.nodes {
            let is_fused = !matches!(node.op, Op::Affine { .. } | Op::Sub | Op::Add | Op::Activation(_));
            assert!(is_fused, "{}: {:?} {:?}", variant.name, node.op, node.names);
        }
    }
}

/// `UPDATE_SNAPSHOTS=1 cargo test -p mobileclip-graph` writes them anew.
#[test]
fn fused_graphs_are_as_kept() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    for variant in mobileclip_arch::variants() {
        let got = snapshot(variant);
        let path = folder.join(format!("{}.txt", variant.name));
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&path, &got).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let differs = got.lines().zip(kept.lines()).find(|(a, b)| a != b);
        assert!(got == kept, "{}: first difference: {differs:?}", path.display());
    }
}

fn snapshot(variant: &Variant) -> String {
    let weights = Formula::of(&Manifest::of(variant));
    let graph = |tower| Graph::trace(variant, tower, &weights, &[]);
    format!("image\n{}\ntext\n{}", graph(Tower::Image), graph(Tower::Text))
}
