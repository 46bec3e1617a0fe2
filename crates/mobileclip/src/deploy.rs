//! The deploy file: one safetensors file with both towers' fused graphs in its metadata, mapped and not read.
//!
//! Since version 2 the weights of products are kept as AVX-512 kernels take them, sums of Strassen–Winograd levels included
//! (decision 0012): they are used where they lie. Other instruction sets get the plain matrix back and pack it anew.

mod write;

use std::collections::{BTreeMap, HashMap, HashSet};

use mobileclip_arch::{Preprocess, Shape, Tower, Variant};
use mobileclip_checkpoint::{Dtype, TensorFile, TensorView};
use mobileclip_engine::{FileOrder, Isa};
use mobileclip_graph::{Graph, Value};

use crate::error::{Error, Result};

pub use write::{DeployOptions, write_deploy, write_deploy_with};

const FORMAT: &str = "mobileclip-deploy";
const VERSION: &str = "2";
/// The first version has no packed weights, and nothing else is different.
const READ: [&str; 2] = ["1", VERSION];

/// Which tensors are packed.
pub(crate) type PackedTensors = HashMap<String, PackedTensor>;

/// A matrix that is kept packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackedTensor {
    outputs: usize,
    inputs: usize,
    pub has_sums: bool,
}

impl PackedTensor {
    fn order(&self) -> FileOrder {
        FileOrder::new(self.outputs, self.inputs, self.has_sums)
    }

    /// Of the matrix.
    pub(crate) fn elements(&self) -> usize {
        self.outputs * self.inputs
    }

    /// The matrix, row-major. `Header::read` has seen that both tensors are there.
    pub(crate) fn unpacked(&self, file: &TensorFile, name: &str) -> mobileclip_checkpoint::Result<Vec<f32>> {
        let values = |name: &str| file.get(name).map_or(Ok(Default::default()), |view| view.to_f32());
        let (packed, spare) = (values(name)?, values(&spare_name(name))?);
        Ok(self.order().unpack(Isa::detect(), &packed, &spare))
    }

    /// What is wrong with the tensors of this matrix.
    fn check(&self, file: &TensorFile, name: &str) -> std::result::Result<(), String> {
        let view = |name: &str| {
            let view = file.get(name).filter(|view| view.dtype() == Dtype::F32);
            view.ok_or_else(|| format!("there is no f32 tensor `{name}`"))
        };
        let expect = |view: TensorView, expected: usize| match view.shape() {
            [length] if *length == expected => Ok(()),
            found => Err(format!("`{}` should have shape [{expected}], found {found:?}", view.name())),
        };
        let packed = view(name)?;
        // Before anything is made that is as long as the matrix is said to be.
        if self.outputs.checked_mul(self.inputs).is_none_or(|elements| elements > packed.elements()) {
            return Err(format!("`{name}` is too short for {} x {}", self.outputs, self.inputs));
        }
        let order = self.order();
        expect(packed, order.len())?;
        match order.spare_len() {
            0 if self.has_sums => Err(format!("`{name}` is too narrow for sums")),
            0 => Ok(()),
            length => expect(view(&spare_name(name))?, length),
        }
    }
}

/// The tensor beside a packed one that the matrix needs to come back.
fn spare_name(name: &str) -> String {
    format!("{name}.spare")
}

/// What a deploy file says of itself.
#[derive(Debug)]
pub(crate) struct Header {
    pub variant: Variant,
    pub preprocess: Preprocess,
    pub image: Graph,
    pub text: Graph,
    pub packed: PackedTensors,
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
        if !READ.contains(&version.as_str()) {
            return Err(fail(format!("version {version}, this program reads up to {VERSION}")));
        }
        let variant = Variant::parse(entry("variant")?).map_err(|e| fail(e.to_string()))?;
        let json = |key: &str, e: serde_json::Error| fail(format!("`{key}`: {e}"));
        let preprocess = serde_json::from_str(entry("preprocess")?).map_err(|e| json("preprocess", e))?;
        let has_sums: BTreeMap<String, bool> = match file.metadata().get("packed") {
            Some(text) => serde_json::from_str(text).map_err(|e| json("packed", e))?,
            None => BTreeMap::new(),
        };
        let (mut used, mut packed) = (HashSet::new(), PackedTensors::new());
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
                    if let (Some(&has_sums), &[outputs, inputs, 1, 1]) = (has_sums.get(name), &*shape) {
                        let tensor = PackedTensor { outputs, inputs, has_sums };
                        tensor.check(file, name).map_err(fail)?;
                        packed.insert(name.clone(), tensor);
                    } else {
                        let found = file.get(name).map(|view| view.shape().to_vec());
                        if found.as_ref() != Some(&shape) {
                            return Err(fail(format!(
                                "`{name}` should have shape {shape:?}, found {found:?}"
                            )));
                        }
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
        Ok(Self { variant, preprocess, image, text, packed })
    }
}
