//! A model that grows node by node: names, constants, and what the caller wants of it.

use std::borrow::Cow;
use std::collections::HashMap;

use mobileclip_arch::{Positions, Resample, Weights, resample};
use mobileclip_graph::Value;

use crate::pictures::Pictures;
use crate::proto::{Attribute, DataType, Dimension, Node, TensorShape, TensorType, Type, ValueInfo};

/// What a model takes, gives and says of itself.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Height and width of the pixels that the tower sees, or 1 and the number of tokens.
    pub size: (usize, usize),
    /// Whether the features are divided by their length.
    pub normalize: bool,
    /// Whether an image tower takes pictures, resizes and normalises them; if not, it takes pixels that are prepared.
    pub pictures: Option<Pictures>,
    /// Whether weights go to a second file, the name of the first with `.data` behind; more than a protobuf message holds
    /// always do.
    pub external_data: bool,
    /// One line for people.
    pub description: String,
    /// Whatever else the model should say of itself.
    pub metadata: Vec<(String, String)>,
}

/// A constant's numbers, or where they come from.
pub(crate) enum Data<'g> {
    /// As the graph has them.
    Value(&'g Value),
    /// A matrix `[rows, columns]` of the graph, written as `[columns, rows]`.
    Transposed { value: &'g Value, rows: usize, columns: usize },
    /// A table of positions fitted to its use; transposed to `[width, rows]` if it is for a map.
    Positions { table: &'g Value, width: usize, fit: Fit, transposed: bool },
    /// Single precision.
    Floats(Vec<f32>),
    /// Double precision.
    Doubles(Vec<f64>),
    /// Integers.
    Ints(Vec<i64>),
}

/// How a table of positions is fitted.
pub(crate) struct Fit {
    pub grid: (usize, usize),
    pub class_row: bool,
    pub target: (usize, usize),
    pub resample: Resample,
}

/// Numbers ready to be written.
pub(crate) enum Numbers<'w> {
    Floats(Cow<'w, [f32]>),
    Doubles(&'w [f64]),
    Ints(&'w [i64]),
}

impl Data<'_> {
    pub(crate) fn data_type(&self) -> DataType {
        match self {
            Self::Doubles(_) => DataType::Double,
            Self::Ints(_) => DataType::Int64,
            _ => DataType::Float,
        }
    }

    pub(crate) fn numbers<'w>(&'w self, weights: &'w dyn Weights) -> Numbers<'w> {
        Numbers::Floats(match self {
            Self::Value(value) => value.f32(weights),
            Self::Transposed { value: Value::Transposed { name, .. }, .. } => weights.f32(name),
            Self::Transposed { value, rows, columns } => {
                Cow::Owned(transpose(&value.f32(weights), *rows, *columns))
            }
            Self::Positions { table, width, fit, transposed } => {
                let positions = Positions {
                    shape: &[*width],
                    grid: fit.grid,
                    class_row: fit.class_row,
                    target: fit.target,
                    resample: fit.resample,
                };
                let rows: Vec<f32> =
                    resample(&table.f64(weights), &positions).iter().map(|&v| v as f32).collect();
                Cow::Owned(match transposed {
                    true => transpose(&rows, rows.len() / width, *width),
                    false => rows,
                })
            }
            Self::Floats(values) => Cow::Borrowed(values),
            Self::Doubles(values) => return Numbers::Doubles(values),
            Self::Ints(values) => return Numbers::Ints(values),
        })
    }
}

fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for column in 0..columns {
        out.extend(values.iter().skip(column).step_by(columns).take(rows));
    }
    out
}

/// A constant of the model.
pub(crate) struct Initializer<'g> {
    pub name: String,
    pub dims: Vec<usize>,
    pub data: Data<'g>,
}

impl Initializer<'_> {
    pub(crate) fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    pub(crate) fn bytes(&self) -> u64 {
        let size = if self.data.data_type() == DataType::Float { 4 } else { 8 };
        size * self.elements() as u64
    }
}

/// Nodes, constants and ports.
pub(crate) struct Builder<'g> {
    pub opset: i64,
    pub nodes: Vec<Node>,
    pub initializers: Vec<Initializer<'g>>,
    pub inputs: Vec<ValueInfo>,
    pub outputs: Vec<ValueInfo>,
    /// How often each name was wanted.
    names: HashMap<String, usize>,
}

impl<'g> Builder<'g> {
    pub(crate) fn new(opset: i64) -> Self {
        let (nodes, initializers, inputs, outputs) = Default::default();
        Self { opset, nodes, initializers, inputs, outputs, names: HashMap::new() }
    }

    /// A name that nothing else has: the wanted one, or that with a number behind.
    fn unique(&mut self, wanted: &str) -> String {
        let count = self.names.entry(wanted.to_owned()).and_modify(|n| *n += 1).or_insert(1);
        match *count {
            1 => wanted.to_owned(),
            n => {
                let numbered = format!("{wanted}_{n}");
                self.unique(&numbered)
            }
        }
    }

    /// Adds an operation of one output, whose name is returned: that of the place and of the operator.
    pub(crate) fn node(
        &mut self,
        place: &str,
        op: &str,
        inputs: &[&str],
        attributes: Vec<Attribute>,
    ) -> String {
        self.node_of(place, op, inputs, attributes, 1).remove(0)
    }

    /// Adds an operation of several outputs.
    pub(crate) fn node_of(
        &mut self,
        place: &str,
        op: &str,
        inputs: &[&str],
        attribute: Vec<Attribute>,
        outputs: usize,
    ) -> Vec<String> {
        let name = self.unique(&format!("{place}/{op}"));
        let output: Vec<String> = match outputs {
            1 => vec![name.clone()],
            n => (0..n).map(|i| format!("{name}.{i}")).collect(),
        };
        self.nodes.push(Node {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: output.clone(),
            name: Some(name),
            op_type: Some(op.to_owned()),
            attribute,
        });
        output
    }

    /// Adds a constant; returns its name.
    pub(crate) fn constant(&mut self, wanted: &str, dims: &[usize], data: Data<'g>) -> String {
        let name = self.unique(wanted);
        self.initializers.push(Initializer { name: name.clone(), dims: dims.to_vec(), data });
        name
    }

    /// The constant list of integers, made once for all its users.
    pub(crate) fn ints(&mut self, values: &[i64]) -> String {
        let listed: Vec<String> = values.iter().map(ToString::to_string).collect();
        let name = format!("ints.{}", listed.join("."));
        self.shared(name, &[values.len()], || Data::Ints(values.to_vec()))
    }

    /// The constant number, made once for all its users.
    pub(crate) fn number(&mut self, value: f32) -> String {
        self.shared(format!("number.{value:e}"), &[], || Data::Floats(vec![value]))
    }

    /// A constant of this name, made once for all its users.
    pub(crate) fn shared(&mut self, name: String, dims: &[usize], data: impl FnOnce() -> Data<'g>) -> String {
        match self.names.contains_key(&name) {
            true => name,
            false => self.constant(&name, dims, data()),
        }
    }

    /// Takes the name out of what nodes and constants may have, for a port of the model.
    pub(crate) fn reserve(&mut self, name: &str) {
        self.names.insert(name.to_owned(), 1);
    }
}

/// A dimension of a port.
#[derive(Clone, Copy)]
pub(crate) enum Dim {
    /// The model's own.
    Fixed(usize),
    /// The caller's, by name.
    Free(&'static str),
}

/// A port of the model.
pub(crate) fn port(name: &str, data_type: DataType, dims: &[Dim]) -> ValueInfo {
    let dim = dims
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(number) => Dimension { dim_value: Some(*number as i64), dim_param: None },
            Dim::Free(name) => Dimension { dim_value: None, dim_param: Some((*name).to_owned()) },
        })
        .collect();
    let tensor = TensorType { elem_type: Some(data_type as i32), shape: Some(TensorShape { dim }) };
    ValueInfo { name: Some(name.to_owned()), r#type: Some(Type { tensor_type: Some(tensor) }) }
}

#[cfg(test)]
mod tests {
    use super::{Builder, transpose};

    #[test]
    fn names_are_unique() {
        let mut builder = Builder::new(17);
        builder.reserve("a/Add_2");
        let names = ["a", "a", "a", "b"].map(|place| builder.node(place, "Add", &[], Vec::new()));
        assert_eq!(names, ["a/Add", "a/Add_2_2", "a/Add_3", "b/Add"]);
        assert_eq!(builder.ints(&[1, -2]), builder.ints(&[1, -2]));
        assert_ne!(builder.number(0.5), builder.number(-0.5));
        assert_eq!(builder.initializers.len(), 3);
    }

    #[test]
    fn matrices_are_transposed() {
        assert_eq!(transpose(&[1., 2., 3., 4., 5., 6.], 2, 3), [1., 4., 2., 5., 3., 6.]);
    }
}
