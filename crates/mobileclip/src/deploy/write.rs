//! Writing a deploy file: what it will hold is decided first, then each tensor is made and written, one at a time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use half::{bf16, f16};
use mobileclip_arch::{Tower, Weights};
use mobileclip_checkpoint::{Checkpoint, FloatType};
use mobileclip_engine::{Isa, product_forms};
use mobileclip_graph::{Graph, Value};
use serde_json::{Map, json};

use super::{FORMAT, PackedTensor, VERSION, spare_name};
use crate::error::{Error, Result};

/// Tensors that kernels read start at multiples of this.
const LINE: usize = 64;
/// Written at once: the system then keeps the file in large pieces, and mapping them takes next to no time. (With pieces of
/// 4 KiB, page by page, it takes longer than reading the numbers.)
const WRITE_BYTES: usize = 4 << 20;

/// The form of a deploy file.
#[derive(Clone, Copy, Debug)]
pub struct DeployOptions {
    /// How matrices and kernels are stored; biases, norms and scales stay f32.
    pub float: FloatType,
    /// Leaves out what can be made when loading: the file is a third smaller, and loading takes longer and more memory.
    /// Half-precision files are always so.
    pub is_compact: bool,
}

/// Writes the fused form of a checkpoint. The file appears whole or not at all.
///
/// # Errors
/// If the checkpoint is damaged, a weight is too large for `float`, or the file cannot be written.
pub fn write_deploy(checkpoint: &Checkpoint, path: &Path, float: FloatType) -> Result<()> {
    write_deploy_with(checkpoint, path, &DeployOptions { float, is_compact: false })
}

/// As [`write_deploy`], with options.
///
/// # Errors
/// As [`write_deploy`].
pub fn write_deploy_with(checkpoint: &Checkpoint, path: &Path, options: &DeployOptions) -> Result<()> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let staging = tempfile::Builder::new().prefix(".deploy-").tempdir_in(folder).map_err(io)?;
    let temporary = staging.path().join("deploy.safetensors");
    // A file of the staging folder's is made as any other new file, with the usual permissions.
    let file = File::create(&temporary).map_err(io)?;
    checkpoint.with_weights(|weights| -> Result<()> {
        let contents = Contents::of(checkpoint, weights, options);
        let mut out = BufWriter::with_capacity(WRITE_BYTES, &file);
        out.write_all(&contents.header(checkpoint)).map_err(io)?;
        for tensor in &contents.tensors {
            let bytes = tensor.bytes(weights).map_err(|made_from| Error::TooLarge {
                path: checkpoint.file().path().to_path_buf(),
                made_from,
            })?;
            out.write_all(&bytes).map_err(io)?;
        }
        out.flush().map_err(io)
    })??;
    file.sync_all().map_err(io)?;
    std::fs::rename(&temporary, path).map_err(io)
}

/// A tensor of the file, and what it is made from.
struct Stored {
    name: String,
    shape: Vec<usize>,
    float: FloatType,
    kind: Kind,
    value: Value,
    /// The canonical names behind the value.
    made_from: Vec<String>,
}

/// In the order of the file: what kernels read in place comes first, on their boundary.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Packed(PackedTensor),
    Spare(PackedTensor),
    Rows,
}

impl Stored {
    fn len(&self) -> usize {
        let size = match self.float {
            FloatType::F32 => 4,
            FloatType::F16 | FloatType::Bf16 => 2,
        };
        self.shape.iter().product::<usize>() * size
    }

    fn rank(&self) -> usize {
        match self.kind {
            Kind::Packed(_) => 0,
            Kind::Spare(_) => 1,
            Kind::Rows if self.len().is_multiple_of(LINE) => 2,
            Kind::Rows => 3,
        }
    }

    /// Little-endian; the names behind a value that does not fit the type as the error.
    fn bytes(&self, weights: &dyn Weights) -> std::result::Result<Vec<u8>, String> {
        let rows = self.value.f32(weights);
        let values: Cow<[f32]> = match self.kind {
            Kind::Packed(tensor) => tensor.order().pack(Isa::detect(), &rows).to_vec().into(),
            Kind::Spare(tensor) => tensor.order().spare(&rows).into(),
            Kind::Rows => rows,
        };
        match self.float {
            FloatType::F32 => Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            FloatType::F16 if values.iter().any(|&v| f16::from_f32(v).is_infinite()) => {
                Err(self.made_from.join(" + "))
            }
            FloatType::F16 => Ok(values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()),
            FloatType::Bf16 => Ok(values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect()),
        }
    }
}

/// All that a file holds.
struct Contents {
    image: Graph,
    text: Graph,
    tensors: Vec<Stored>,
}

impl Contents {
    fn of(checkpoint: &Checkpoint, weights: &dyn Weights, options: &DeployOptions) -> Self {
        let variant = checkpoint.variant();
        let mut tensors = vec![Stored {
            name: "logit_scale".to_owned(),
            shape: vec![1],
            float: FloatType::F32,
            kind: Kind::Rows,
            value: Value::Stored("logit_scale".to_owned()),
            made_from: Vec::new(),
        }];
        let mut graph = |tower: Tower| {
            let graph = Graph::trace(variant, tower, weights, &[]);
            let input = variant.input(tower);
            name_constants(graph, (input.height, input.width), options, &mut tensors)
        };
        let (image, text) = (graph(Tower::Image), graph(Tower::Text));
        tensors.sort_by_key(Stored::rank);
        Self { image, text, tensors }
    }

    /// The length and the JSON, filled up so that the first tensor starts on a line.
    fn header(&self, checkpoint: &Checkpoint) -> Vec<u8> {
        let packed: BTreeMap<&str, bool> = (self.tensors.iter())
            .filter_map(|tensor| match tensor.kind {
                Kind::Packed(packed) => Some((tensor.name.as_str(), packed.has_sums)),
                Kind::Spare(_) | Kind::Rows => None,
            })
            .collect();
        let text = |value: serde_json::Result<String>| value.unwrap_or_default();
        let mut header = Map::new();
        let metadata = json!({
            "format": FORMAT,
            "version": VERSION,
            "variant": toml::to_string(checkpoint.variant()).unwrap_or_default(),
            "preprocess": text(serde_json::to_string(checkpoint.preprocess())),
            "image": text(serde_json::to_string(&self.image)),
            "text": text(serde_json::to_string(&self.text)),
            "packed": text(serde_json::to_string(&packed)),
        });
        header.insert("__metadata__".to_owned(), metadata);
        let mut start = 0;
        for tensor in &self.tensors {
            let end = start + tensor.len();
            let dtype = match tensor.float {
                FloatType::F32 => "F32",
                FloatType::F16 => "F16",
                FloatType::Bf16 => "BF16",
            };
            let entry = json!({ "dtype": dtype, "shape": tensor.shape, "data_offsets": [start, end] });
            header.insert(tensor.name.clone(), entry);
            start = end;
        }
        let mut json = serde_json::Value::Object(header).to_string();
        let length = (8 + json.len()).next_multiple_of(LINE) - 8;
        json.extend(std::iter::repeat_n(' ', length - json.len()));
        [&(length as u64).to_le_bytes()[..], json.as_bytes()].concat()
    }
}

/// Puts every constant of a graph under a name of its own, and lists the tensors that keep them.
fn name_constants(
    mut graph: Graph,
    usual: (usize, usize),
    options: &DeployOptions,
    tensors: &mut Vec<Stored>,
) -> Graph {
    let is_packed = options.float == FloatType::F32 && !options.is_compact;
    let forms = product_forms(&graph, usual).filter(|_| is_packed).unwrap_or_default();
    let channels = graph.channels();
    let tower = format!("{:?}", graph.tower).to_lowercase();
    for (id, node) in graph.nodes.iter_mut().enumerate() {
        for (leaf, value, shape) in node.op.constants_mut(channels[id]) {
            let name = format!("{tower}.{id}.{leaf}");
            let value = std::mem::replace(value, Value::Stored(name.clone()));
            let float = if shape.len() > 1 { options.float } else { FloatType::F32 };
            let mut push = |name: String, shape: Vec<usize>, kind: Kind| {
                let (value, made_from) = (value.clone(), node.names.clone());
                tensors.push(Stored { name, shape, float, kind, value, made_from });
            };
            let form = forms.get(id).copied().flatten();
            let (Some(form), &[outputs, inputs, 1, 1]) = (form, &*shape) else {
                push(name, shape, Kind::Rows);
                continue;
            };
            let tensor = PackedTensor { outputs, inputs, has_sums: form.has_sums };
            let order = tensor.order();
            push(name.clone(), vec![order.len()], Kind::Packed(tensor));
            if order.spare_len() > 0 {
                push(spare_name(&name), vec![order.spare_len()], Kind::Spare(tensor));
            }
        }
    }
    graph
}
