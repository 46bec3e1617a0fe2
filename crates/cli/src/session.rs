//! From the global options to a loaded model.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use mobileclip::{DecodeOptions, LabelCache, LoadOptions, Model, Variant, hub};

use crate::args::{Caching, Computing, Decoding, Global, Precision};
use crate::output::note;
use crate::progress::Downloads;

/// The options of loading that were typed.
pub fn load_options(global: &Global, decoding: Option<&Decoding>) -> anyhow::Result<LoadOptions> {
    let mut decode = DecodeOptions::upright();
    if let Some(decoding) = decoding {
        decode.apply_orientation = !decoding.no_exif;
        if let Some(megapixels) = decoding.max_megapixels {
            decode = decode.with_max_pixels(u64::from(megapixels) * 1_000_000);
        }
    }
    Ok(LoadOptions {
        variant: global.variant.as_deref().map(variant).transpose()?,
        threads: global.threads.map_or(0, usize::from),
        decode,
        fast_decode: decoding.is_some_and(|decoding| decoding.fast_decode),
        ..LoadOptions::default()
    })
}

/// A variant by its name, or from a file.
fn variant(name_or_file: &str) -> anyhow::Result<Variant> {
    if let Some(variant) = mobileclip::variant(name_or_file) {
        return Ok(variant.clone());
    }
    let path = Path::new(name_or_file);
    if path.extension().is_some_and(|extension| extension == "toml") {
        let toml = std::fs::read_to_string(path).with_context(|| format!("{name_or_file}: --variant"))?;
        return Variant::parse(&toml).with_context(|| format!("{name_or_file}: not a variant"));
    }
    let names: Vec<&str> = mobileclip::variants().iter().map(|variant| variant.name.as_str()).collect();
    Err(anyhow!(
        "--variant {name_or_file}: no variant has this name, and it is no .toml file; there are {}",
        names.join(", ")
    ))
}

/// Whether a file can be made there, said before hours of work and not after them.
pub fn check_folder(file: &Path) -> anyhow::Result<()> {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            bail!("{}: there is no folder `{}`", file.display(), folder.display())
        }
        _ => Ok(()),
    }
}

/// The path of a model; downloads it if need be.
pub fn locate(name_or_path: &str, global: &Global) -> anyhow::Result<PathBuf> {
    let mut downloads = Downloads::new(global.quiet);
    mobileclip::locate(name_or_path, &mut |progress| downloads.report(progress)).map_err(mend_hub)
}

/// Loads the model that the global options name.
pub fn load(global: &Global, decoding: Option<&Decoding>, computing: &Computing) -> anyhow::Result<Model> {
    let options = LoadOptions { precision: computing.precision.into(), ..load_options(global, decoding)? };
    let path = locate(&global.model, global)?;
    let model = Model::open(&path, &options).map_err(mend_model)?;
    note_emulation(&model, global);
    Ok(model)
}

/// Loads the model that the global options name, with photos read as they were in training: not turned.
pub fn load_as_trained(global: &Global, precision: Precision) -> anyhow::Result<Model> {
    let decode = DecodeOptions::default();
    let options = LoadOptions { decode, precision: precision.into(), ..load_options(global, None)? };
    let path = locate(&global.model, global)?;
    let model = Model::open(&path, &options).map_err(mend_model)?;
    note_emulation(&model, global);
    Ok(model)
}

/// Loads a teacher, `CHECKPOINT` or `CHECKPOINT=VARIANT`, with photos read as they were in training.
pub fn load_teacher(global: &Global, teacher: &str, precision: Precision) -> anyhow::Result<Model> {
    let (name, variant) = match teacher.rsplit_once('=') {
        Some((name, variant)) if !Path::new(teacher).exists() => (name, Some(variant.to_owned())),
        _ => (teacher, None),
    };
    // Pictures are divided among threads already.
    let options = LoadOptions {
        variant: variant.or_else(|| global.variant.clone()).as_deref().map(self::variant).transpose()?,
        threads: 1,
        decode: DecodeOptions::default(),
        precision: precision.into(),
        ..LoadOptions::default()
    };
    let model = Model::open(&locate(name, global)?, &options).map_err(mend_model)?;
    note_emulation(&model, global);
    Ok(model)
}

/// Says so if the processor has no instructions for the precision that was asked for.
pub fn note_emulation(model: &Model, global: &Global) {
    if !model.is_precision_native() {
        let precision = model.precision();
        note(
            global.quiet,
            format!(
                "this processor has no instructions for {precision}: others give the same results, at about the speed of f32"
            ),
        );
    }
}

impl From<Precision> for mobileclip::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
            Precision::Int8 => Self::Int8,
        }
    }
}

/// The cache of text embeddings, unless it is unwanted or has no place.
pub fn label_cache(caching: &Caching) -> Option<LabelCache> {
    if caching.no_cache { None } else { LabelCache::of_user() }
}

/// Adds how it is done on the command line to what the library says.
pub fn mend_model(error: mobileclip::Error) -> anyhow::Error {
    let is_ambiguous = error.to_string().contains("name the variant");
    let error = anyhow::Error::from(error);
    match is_ambiguous {
        true => anyhow!("{} with --variant NAME", crate::output::chain(&error)),
        false => error,
    }
}

fn mend_hub(error: mobileclip::Error) -> anyhow::Error {
    use hub::Error::{Offline, UnknownModel, Unreachable};
    let hint = match &error {
        mobileclip::Error::Hub(Offline { .. } | Unreachable { .. }) => {
            "`--model PATH`, a model folder or file"
        }
        mobileclip::Error::Hub(UnknownModel { .. }) => {
            "and no file or folder of this name is here; `mobileclip models` lists the names"
        }
        _ => return error.into(),
    };
    anyhow!("{error}: {hint}")
}

/// Adds how an index is repaired.
pub fn mend_index(error: mobileclip::index::Error) -> anyhow::Error {
    let is_damage = matches!(error, mobileclip::index::Error::Segment { .. });
    let error = anyhow::Error::from(error);
    match is_damage {
        true => anyhow!(
            "{} (repairing: `mobileclip index DIR… --out INDEX --repair`)",
            crate::output::chain(&error)
        ),
        false => error,
    }
}
