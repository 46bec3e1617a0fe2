//! `mobileclip export`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use mobileclip::{LoadOptions, Model, OnnxOptions, Which};

use super::convert::is_same;
use crate::args::{Export, Global, PixelOrder, TowerName};
use crate::output::{Outcome, note};
use crate::session;

pub fn run(global: &Global, args: &Export) -> anyhow::Result<Outcome> {
    let targets = targets(args)?;
    if let Some((_, there)) = targets.iter().find(|(_, target)| target.exists() && !args.force) {
        bail!("{}: is there already; --force replaces it", there.display());
    }
    let load = LoadOptions { image_size: args.image_size, ..session::load_options(global, None)? };
    let path = session::locate(args.target.as_deref().unwrap_or(&global.model), global)?;
    let model = Model::open(&path, &load).map_err(session::mend_model)?;
    // The weights are read while the target is written.
    if let Some((_, same)) = targets.iter().find(|(_, target)| is_same(target, model.path())) {
        bail!("{}: is the input itself; choose another name", same.display());
    }
    for folder in targets.iter().filter_map(|(_, target)| target.parent()) {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }

    let order = match args.pixel_order {
        PixelOrder::Nhwc => mobileclip::PixelOrder::Nhwc,
        PixelOrder::Nchw => mobileclip::PixelOrder::Nchw,
    };
    let options = OnnxOptions {
        normalize: args.normalize,
        pictures: args.with_preprocess.then_some(order),
        text_length: args.text_length,
        external_data: args.external_data,
    };
    let towers: Vec<(Which, &Path)> =
        targets.iter().map(|(which, target)| (*which, target.as_path())).collect();
    for file in model.export_onnx(&towers, &options)? {
        let bytes = fs::metadata(&file).map_or(0, |metadata| metadata.len());
        let name = &model.variant().name;
        note(global.quiet, format!("{}: {:.1} MB, {name}", file.display(), bytes as f64 / 1e6));
    }
    Ok(Outcome::Done)
}

/// Which tower goes to which file.
fn targets(args: &Export) -> anyhow::Result<Vec<(Which, PathBuf)>> {
    let out = &args.out;
    if args.tower == Some(TowerName::Text) && (args.with_preprocess || args.image_size.is_some()) {
        bail!("--with-preprocess and --image-size are about the image tower, --tower text leaves it out");
    }
    if args.tower == Some(TowerName::Image) && args.text_length.is_some() {
        bail!("--text-length is about the text tower, --tower image leaves it out");
    }
    let is_file_name = out.extension().is_some_and(|extension| extension == "onnx") && !out.is_dir();
    if !is_file_name && out.is_file() {
        bail!("{}: is a file; towers need a folder, or --tower and a name ending in .onnx", out.display());
    }
    let file = |name: &str| if is_file_name { out.clone() } else { out.join(name) };
    Ok(match args.tower {
        Some(TowerName::Image) => vec![(Which::Image, file("image.onnx"))],
        Some(TowerName::Text) => vec![(Which::Text, file("text.onnx"))],
        None if is_file_name => bail!(
            "{}: is one file's name; --tower says whose, or give a folder for both towers",
            out.display()
        ),
        None => vec![(Which::Image, file("image.onnx")), (Which::Text, file("text.onnx"))],
    })
}
