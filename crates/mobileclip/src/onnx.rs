//! Towers as ONNX models, for runtimes other than ours.

use std::path::{Path, PathBuf};

use mobileclip_arch::Tower as Which;
use mobileclip_image::PreprocessCfg;
use mobileclip_onnx::{Pictures, PixelOrder, Settings, Written};
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::model::Model;

/// How a tower is written as an ONNX model.
#[derive(Clone, Debug, Default)]
pub struct OnnxOptions {
    /// Whether the model gives features of length 1.
    pub normalize: bool,
    /// Whether an image tower takes pictures as bytes, in this order, and prepares them itself.
    pub pictures: Option<PixelOrder>,
    /// Tokens of a row, if not the whole context; for text towers that do not see their padding.
    pub text_length: Option<usize>,
    /// Whether the weights go to a file of their own even where they fit into the model's.
    pub external_data: bool,
}

/// A tower's files, not yet at their place.
struct Staged {
    folder: PathBuf,
    written: Written,
    /// Removed with what is left in it.
    _staging: TempDir,
}

impl Model {
    /// Writes towers, fused, as ONNX models with a dynamic batch: each to its path, and to that path with `.data` behind what does
    /// not fit into one file. Returns the files. All appear, each whole, or none.
    ///
    /// | tower | input | output |
    /// |---|---|---|
    /// | image | `pixel_values`: f32 `[batch, 3, height, width]`, prepared | `image_embeds`: f32 `[batch, D]` |
    /// | image, with pictures | `image`: u8 `[batch, height, width, 3]` or `[batch, 3, height, width]`, of any size | the same |
    /// | text | `input_ids`: i64 `[batch, tokens]`, padded with 0 | `text_embeds`: f32 `[batch, D]` |
    ///
    /// The models' metadata tell the variant, the preprocessing, the context length and the logit scale.
    ///
    /// ```no_run
    /// use mobileclip::{Model, OnnxOptions, Which};
    ///
    /// let model = Model::load("MobileCLIP2-S0")?;
    /// model.export_onnx(&[(Which::Image, "image.onnx".as_ref())], &OnnxOptions::default())?;
    /// # Ok::<(), mobileclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// If a tower does not take the image size or text length, the weights are damaged, or a file cannot be written.
    pub fn export_onnx(&self, towers: &[(Which, &Path)], options: &OnnxOptions) -> Result<Vec<PathBuf>> {
        let staged = towers.iter().map(|&(which, path)| self.stage(which, path, options));
        let staged: Vec<Staged> = staged.collect::<Result<_>>()?;
        let mut files = Vec::new();
        for Staged { folder, written, .. } in &staged {
            // The weights first: a model without them is of no use, they without it do no harm.
            for file in written.data.iter().chain([&written.model]) {
                let target = folder.join(file.file_name().unwrap_or_default());
                std::fs::rename(file, &target)
                    .map_err(|source| Error::Io { path: target.clone(), source })?;
                files.push(target);
            }
        }
        Ok(files)
    }

    /// Writes a tower beside its path.
    fn stage(&self, which: Which, path: &Path, options: &OnnxOptions) -> Result<Staged> {
        let settings = self.onnx_settings(which, options)?;
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let name = path.file_name().ok_or_else(|| io(std::io::ErrorKind::InvalidFilename.into()))?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let staging = tempfile::Builder::new().prefix(".export-").tempdir_in(folder).map_err(io)?;
        let graph = self.graph(which);
        let target = staging.path().join(name);
        let written = mobileclip_onnx::write(&graph, self.source.as_ref(), &settings, &target);
        // What the file says of its damage is clearer than what the numbers show of it.
        self.source.take_error()?;
        let written = written.map_err(|error| match error {
            mobileclip_onnx::Error::Io { source, .. } => io(source),
            source => Error::Onnx { path: self.path().to_path_buf(), source },
        })?;
        Ok(Staged { folder: folder.to_path_buf(), written, _staging: staging })
    }

    fn onnx_settings(&self, which: Which, options: &OnnxOptions) -> Result<Settings> {
        let (variant, preprocess) = (&self.variant, &self.preprocess);
        let context = variant.text.context;
        let length = options.text_length.unwrap_or(context);
        if which == Which::Text && variant.reads_padding() && length != context {
            return Err(Error::TokenRow { found: length, expected: context });
        }
        let cfg = PreprocessCfg {
            size: Some(preprocess.size),
            mode: Some("RGB".to_owned()),
            mean: Some(preprocess.mean),
            std: Some(preprocess.std),
            interpolation: Some(preprocess.interpolation),
            resize_mode: Some(preprocess.resize_mode),
            fill_color: None,
        };
        let metadata = [
            ("variant", variant.name.clone()),
            ("embed_dim", variant.embed_dim.to_string()),
            ("context_length", context.to_string()),
            ("logit_scale", self.scale.to_string()),
            ("preprocess_cfg", serde_json::to_string(&cfg).unwrap_or_default()),
            ("normalized", options.normalize.to_string()),
        ];
        let (tower, size) = match which {
            Which::Image => ("image tower", preprocess.size),
            Which::Text => ("text tower", (1, length)),
        };
        let pictures = options.pictures.filter(|_| which == Which::Image);
        Ok(Settings {
            size,
            normalize: options.normalize,
            pictures: pictures.map(|order| Pictures { preprocess: self.trained_preprocess.clone(), order }),
            external_data: options.external_data,
            description: format!("{} of {} ({})", tower, variant.name, variant.summary),
            metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(),
        })
    }
}
