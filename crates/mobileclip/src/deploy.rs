//! The deploy file: one safetensors file with both towers' fused graphs in its metadata, mapped and not read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use half::{bf16, f16};
use mobileclip_arch::{Preprocess, Shape, Tower, Variant, Weights};
use mobileclip_checkpoint::{Checkpoint, FloatType, TensorFile};
use mobileclip_graph::{Graph, Value};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};

use crate::error::{Error, Result};

const FORMAT: &str = "mobileclip-deploy";
const VERSION: &str = "1";

/// What a deploy file says of itself.
#[derive(Debug)]
pub(crate) struct Header {
    pub variant: Variant,
    pub preprocess: Preprocess,
    pub image: Graph,
    pub text: Graph,
}

/// Whether a file says that it is a deploy file.
pub(crate) fn is_deploy(file: &TensorFile) -> bool {
    file.metadata().get("format").is_some_and(|format| format == FORMAT)
}

impl Header {
    /// Reads and checks the metadata: every constant that the graphs name is there with the elements they need.
    pub(crate) fn read(file: &TensorFile) -> Result<Self> {
        let fail = |reason: String| Error::Deploy { path: file.path().to_path_buf(), reason };
        let entry =
            |key: &str| file.metadata().get(key).ok_or_else(|| fail(format!("its metadata have no `{key}`")));
        let version = entry("version")?;
        if version != VERSION {
            return Err(fail(format!("version {version}, this program reads {VERSION}")));
        }
        let variant = Variant::parse(entry("variant")?).map_err(|e| fail(e.to_string()))?;
        let json = |key: &str, e: serde_json::Error| fail(format!("`{key}`: {e}"));
        let preprocess = serde_json::from_str(entry("preprocess")?).map_err(|e| json("preprocess", e))?;
        let mut used = HashSet::new();
        let mut graph = |key: &str| -> Result<Graph> {
            let mut graph: Graph = serde_json::from_str(entry(key)?).map_err(|e| json(key, e))?;
            graph.check().map_err(|e| fail(format!("`{key}`: {e}")))?;
            if !graph.taps.is_empty() {
                return Err(fail(format!("`{key}`: outputs of inner nodes are not kept in such files")));
            }
            let input = variant.input(graph.tower);
            let shapes = graph.shapes(input.height, input.width);
            let output = shapes.map(|shapes| shapes[graph.output]);
            let expected = Shape::new(variant.embed_dim, 1, 1);
            if output != Some(expected) {
                return Err(fail(format!("`{key}` should give {expected:?}, gives {output:?}")));
            }
            let channels = graph.channels();
            for (node, channels) in graph.nodes.iter_mut().zip(channels) {
                for (leaf, value, shape) in node.op.constants_mut(channels) {
                    // Whatever else a file may say, only stored tensors are taken from it.
                    let Value::Stored(name) = value else {
                        return Err(fail(format!("`{key}`: a {leaf} is no stored tensor")));
                    };
                    let found = file.get(name).map(|view| view.shape().to_vec());
                    if found.as_ref() != Some(&shape) {
                        return Err(fail(format!("`{name}` should have shape {shape:?}, found {found:?}")));
                    }
                    // Each constant is packed: one tensor for thousands of nodes would be a small file of huge needs.
                    if !used.insert(name.clone()) {
                        return Err(fail(format!("`{name}` is used twice")));
                    }
                }
            }
            Ok(graph)
        };
        let (image, text) = (graph("image")?, graph("text")?);
        if (image.tower, text.tower) != (Tower::Image, Tower::Text) {
            return Err(fail("its towers are exchanged".to_owned()));
        }
        if file.get("logit_scale").is_none_or(|view| view.elements() != 1) {
            return Err(fail("it has no `logit_scale`".to_owned()));
        }
        Ok(Self { variant, preprocess, image, text })
    }
}

/// Writes the fused form of a checkpoint. The file appears whole or not at all.
///
/// Matrices and kernels are stored as `float`; biases, norms and scales stay f32.
///
/// # Errors
/// If the checkpoint is damaged, a weight is too large for `float`, or the file cannot be written.
pub fn write_deploy(checkpoint: &Checkpoint, path: &Path, float: FloatType) -> Result<()> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let (tensors, metadata) = checkpoint.with_weights(|weights| {
        let mut tensors = BTreeMap::new();
        let mut graph = |tower: Tower| {
            let graph = Graph::trace(checkpoint.variant(), tower, weights, &[]);
            store(graph, weights, float, &mut tensors)
        };
        let (image, text) = (graph(Tower::Image), graph(Tower::Text));
        let scale = weights.f32("logit_scale").into_owned();
        tensors.insert("logit_scale".to_owned(), Stored::new(vec![1], &scale, FloatType::F32, &[]));
        let metadata = [
            ("format", FORMAT.to_owned()),
            ("version", VERSION.to_owned()),
            ("variant", toml::to_string(checkpoint.variant()).unwrap_or_default()),
            ("preprocess", serde_json::to_string(checkpoint.preprocess()).unwrap_or_default()),
            ("image", serde_json::to_string(&image).unwrap_or_default()),
            ("text", serde_json::to_string(&text).unwrap_or_default()),
        ];
        let metadata: HashMap<String, String> = metadata.map(|(k, v)| (k.to_owned(), v)).into();
        (tensors, metadata)
    })?;
    if let Some(made_from) = tensors.values().find_map(|stored| stored.too_large.clone()) {
        return Err(Error::TooLarge { path: checkpoint.file().path().to_path_buf(), made_from });
    }
    let views: Vec<(String, TensorView)> = tensors
        .iter()
        .map(|(name, stored)| {
            let view = TensorView::new(stored.dtype, stored.shape.clone(), &stored.bytes);
            view.map(|view| (name.clone(), view)).map_err(|e| io(std::io::Error::other(e.to_string())))
        })
        .collect::<Result<_>>()?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let staging = tempfile::Builder::new().prefix(".deploy-").tempdir_in(folder).map_err(io)?;
    let temporary = staging.path().join("deploy.safetensors");
    serialize_to_file(views, Some(metadata), &temporary)
        .map_err(|e| io(std::io::Error::other(e.to_string())))?;
    // The writer leaves the file readable by its owner only; it shall be as any other new file.
    let usual = staging.path().join("usual");
    std::fs::write(&usual, "").map_err(io)?;
    let permissions = std::fs::metadata(&usual).map_err(io)?.permissions();
    std::fs::set_permissions(&temporary, permissions).map_err(io)?;
    std::fs::File::open(&temporary).and_then(|file| file.sync_all()).map_err(io)?;
    std::fs::rename(&temporary, path).map_err(io)?;
    Ok(())
}

struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
    /// What it was made from, if a value does not fit the type.
    too_large: Option<String>,
}

impl Stored {
    fn new(shape: Vec<usize>, values: &[f32], float: FloatType, made_from: &[String]) -> Self {
        let is_too_large = match float {
            FloatType::F16 => values.iter().any(|&v| f16::from_f32(v).is_infinite()),
            FloatType::F32 | FloatType::Bf16 => false,
        };
        let too_large = is_too_large.then(|| made_from.join(" + "));
        let (dtype, bytes) = match float {
            FloatType::F32 => (Dtype::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            FloatType::F16 => {
                (Dtype::F16, values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect())
            }
            FloatType::Bf16 => {
                (Dtype::BF16, values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect())
            }
        };
        Self { dtype, shape, bytes, too_large }
    }
}

/// The graph with every constant under a name of its own, and those constants.
fn store(
    mut graph: Graph,
    weights: &dyn Weights,
    float: FloatType,
    tensors: &mut BTreeMap<String, Stored>,
) -> Graph {
    let channels = graph.channels();
    let tower = format!("{:?}", graph.tower).to_lowercase();
    for (id, node) in graph.nodes.iter_mut().enumerate() {
        for (leaf, value, shape) in node.op.constants_mut(channels[id]) {
            let float = if shape.len() > 1 { float } else { FloatType::F32 };
            let name = format!("{tower}.{id}.{leaf}");
            let stored = Stored::new(shape, &value.f32(weights), float, &node.names);
            tensors.insert(name.clone(), stored);
            *value = Value::Stored(name);
        }
    }
    graph
}
