//! A small interpreter of ONNX in double precision, written from the operators' specification and from nothing of this crate but
//! the messages: it knows what the towers use.

use std::collections::HashMap;

use mobileclip_arch::{Activation, Array, Shape};
use mobileclip_onnx::proto::{Attribute, Model, Node, Tensor};

/// Numbers and their shape; integers are numbers too.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    pub dims: Vec<usize>,
    pub data: Vec<f64>,
}

impl Value {
    pub fn new(dims: &[usize], data: Vec<f64>) -> Self {
        assert_eq!(dims.iter().product::<usize>(), data.len(), "{dims:?}");
        Self { dims: dims.to_vec(), data }
    }

    fn ints(&self) -> Vec<i64> {
        self.data.iter().map(|&v| v as i64).collect()
    }

    /// The sizes before, at and behind an axis.
    fn around(&self, axis: i64) -> (usize, usize, usize) {
        let axis = position(axis, self.dims.len());
        (self.dims[..axis].iter().product(), self.dims[axis], self.dims[axis + 1..].iter().product())
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { dims: self.dims.clone(), data: self.data.iter().map(|&v| f(v)).collect() }
    }
}

fn position(axis: i64, rank: usize) -> usize {
    if axis < 0 { rank - axis.unsigned_abs() as usize } else { axis as usize }
}

/// The output of a model for its one input.
pub fn run(model: &Model, input: Value) -> Value {
    let graph = model.graph.as_ref().unwrap();
    let mut values: HashMap<&str, Value> =
        graph.initializer.iter().map(|t| (t.name.as_deref().unwrap(), constant(t))).collect();
    values.insert(graph.input[0].name.as_deref().unwrap(), input);
    for node in &graph.node {
        let inputs: Vec<&Value> = node.input.iter().map(|name| &values[name.as_str()]).collect();
        let outputs = evaluate(node, &inputs);
        for (name, value) in node.output.iter().zip(outputs) {
            assert!(values.insert(name, value).is_none(), "{name} is made twice");
        }
    }
    values.remove(graph.output[0].name.as_deref().unwrap()).unwrap()
}

fn constant(tensor: &Tensor) -> Value {
    let bytes = tensor.raw_data.as_ref().unwrap();
    let data = match tensor.data_type {
        Some(1) => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
        Some(7) => bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
        other => panic!("data type {other:?}"),
    };
    Value::new(&tensor.dims.iter().map(|&n| n as usize).collect::<Vec<_>>(), data)
}

fn attribute<'a>(node: &'a Node, name: &str) -> Option<&'a Attribute> {
    node.attribute.iter().find(|a| a.name.as_deref() == Some(name))
}

fn evaluate(node: &Node, inputs: &[&Value]) -> Vec<Value> {
    let int = |name: &str, default: i64| attribute(node, name).map_or(default, |a| a.i.unwrap());
    let ints = |name: &str| attribute(node, name).map(|a| a.ints.clone()).unwrap();
    let x = inputs[0];
    vec![match node.op_type.as_deref().unwrap() {
        "Add" => broadcast(x, inputs[1], |a, b| a + b),
        "Sub" => broadcast(x, inputs[1], |a, b| a - b),
        "Mul" => broadcast(x, inputs[1], |a, b| a * b),
        "Div" => broadcast(x, inputs[1], |a, b| a / b),
        "Max" => broadcast(x, inputs[1], f64::max),
        "Expand" => {
            let dims: Vec<usize> = inputs[1].data.iter().map(|&n| n as usize).collect();
            broadcast(x, &Value::new(&dims, vec![0.0; dims.iter().product()]), |a, _| a)
        }
        "Relu" => x.map(|v| v.max(0.0)),
        "Sigmoid" => x.map(|v| 1.0 / (1.0 + (-v).exp())),
        "Sqrt" => x.map(f64::sqrt),
        "Erf" => erf(x),
        "Cast" => x.clone(),
        "Conv" => {
            conv(x, inputs[1], inputs.get(2).copied(), &ints("strides"), &ints("pads"), int("group", 1))
        }
        "MatMul" => matmul(x, inputs[1]),
        "LayerNormalization" => {
            let eps = attribute(node, "epsilon").unwrap().f.unwrap().into();
            layer_norm(x, inputs[1], inputs[2], eps)
        }
        "Softmax" => softmax(x),
        "GlobalAveragePool" => {
            let pixels = x.dims[2] * x.dims[3];
            let means = x.data.chunks(pixels).map(|plane| plane.iter().sum::<f64>() / pixels as f64);
            Value::new(&[x.dims[0], x.dims[1], 1, 1], means.collect())
        }
        "ReduceSum" => {
            let (outer, count, inner) = x.around(inputs[1].ints()[0]);
            assert_eq!(inner, 1);
            Value::new(&[outer, 1], x.data.chunks(count).map(|row| row.iter().sum()).collect())
        }
        "ArgMax" => {
            let (outer, count, inner) = x.around(int("axis", 0));
            assert_eq!(inner, 1);
            let first = |row: &[f64]| (0..count).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            Value::new(&[outer, 1], x.data.chunks(count).map(|row| first(row) as f64).collect())
        }
        "Reshape" => reshape(x, &inputs[1].ints()),
        "Flatten" => {
            let (outer, count, inner) = x.around(int("axis", 1));
            Value::new(&[outer, count * inner], x.data.clone())
        }
        "Unsqueeze" => {
            let mut dims = x.dims.clone();
            dims.insert(inputs[1].ints()[0] as usize, 1);
            Value::new(&dims, x.data.clone())
        }
        "Transpose" => transpose(x, &ints("perm")),
        "Split" => return split(x, int("axis", 0), &inputs[1].ints()),
        "Concat" => concat(inputs, int("axis", 0)),
        "Shape" => {
            let dims = &x.dims[int("start", 0) as usize..int("end", x.dims.len() as i64) as usize];
            Value::new(&[dims.len()], dims.iter().map(|&n| n as f64).collect())
        }
        "Gather" => gather(x, inputs[1], int("axis", 0)),
        "GatherND" => gather_nd(x, inputs[1], int("batch_dims", 0)),
        other => panic!("no operator {other}"),
    }]
}

/// The offsets into values of `dims` of every element of values of `out`, broadcast.
fn offsets(dims: &[usize], out: &[usize]) -> Vec<usize> {
    let mut all = vec![0];
    let missing = out.len() - dims.len();
    let mut strides = vec![0; out.len()];
    let mut stride = 1;
    for axis in (0..dims.len()).rev() {
        if dims[axis] > 1 {
            assert_eq!(dims[axis], out[missing + axis]);
            strides[missing + axis] = stride;
        }
        stride *= dims[axis];
    }
    for (n, stride) in out.iter().zip(strides) {
        all = all.iter().flat_map(|&at| (0..*n).map(move |i| at + i * stride)).collect();
    }
    all
}

fn broadcast(a: &Value, b: &Value, f: impl Fn(f64, f64) -> f64) -> Value {
    let rank = a.dims.len().max(b.dims.len());
    let dim = |v: &Value, axis: usize| (axis + v.dims.len()).checked_sub(rank).map_or(1, |i| v.dims[i]);
    let out: Vec<usize> = (0..rank).map(|axis| dim(a, axis).max(dim(b, axis))).collect();
    let pairs = offsets(&a.dims, &out).into_iter().zip(offsets(&b.dims, &out));
    Value::new(&out, pairs.map(|(i, j)| f(a.data[i], b.data[j])).collect())
}

/// By way of GELU, which is x (1 + erf(x / √2)) / 2.
fn erf(x: &Value) -> Value {
    let scaled: Vec<f64> = x.data.iter().map(|v| v * std::f64::consts::SQRT_2).collect();
    let gelu = Array::new(Shape::new(1, 1, scaled.len()), scaled.clone()).activation(Activation::Gelu);
    let erf = |(y, x): (&f64, &f64)| if *x == 0.0 { 0.0 } else { 2.0 * y / x - 1.0 };
    Value::new(&x.dims, gelu.values.iter().zip(&scaled).map(erf).collect())
}

fn conv(x: &Value, w: &Value, bias: Option<&Value>, strides: &[i64], pads: &[i64], groups: i64) -> Value {
    let &[batch, inputs, height, width] = x.dims.as_slice() else { panic!("{:?}", x.dims) };
    let &[outputs, per_group, kh, kw] = w.dims.as_slice() else { panic!("{:?}", w.dims) };
    let groups = groups as usize;
    assert_eq!(inputs, per_group * groups);
    let side =
        |n: usize, k: usize, a: usize| (n + (pads[a] + pads[a + 2]) as usize - k) / strides[a] as usize + 1;
    let (rows, columns) = (side(height, kh, 0), side(width, kw, 1));
    let mut out = Vec::with_capacity(batch * outputs * rows * columns);
    for n in 0..batch {
        for o in 0..outputs {
            let first = o / (outputs / groups) * per_group;
            for y in 0..rows {
                for z in 0..columns {
                    let mut sum = bias.map_or(0.0, |bias| bias.data[o]);
                    for c in 0..per_group {
                        for i in 0..kh {
                            for j in 0..kw {
                                let row = (y as i64 * strides[0] + i as i64) - pads[0];
                                let column = (z as i64 * strides[1] + j as i64) - pads[1];
                                if (0..height as i64).contains(&row) && (0..width as i64).contains(&column) {
                                    let plane = n * inputs + first + c;
                                    let at = (plane * height + row as usize) * width + column as usize;
                                    sum += x.data[at] * w.data[((o * per_group + c) * kh + i) * kw + j];
                                }
                            }
                        }
                    }
                    out.push(sum);
                }
            }
        }
    }
    Value::new(&[batch, outputs, rows, columns], out)
}

fn matmul(a: &Value, b: &Value) -> Value {
    let (rows, inner) = (a.dims[a.dims.len() - 2], a.dims[a.dims.len() - 1]);
    let columns = b.dims[b.dims.len() - 1];
    assert_eq!(b.dims[b.dims.len() - 2], inner);
    let mut dims = a.dims.clone();
    *dims.last_mut().unwrap() = columns;
    let mut out = Vec::with_capacity(dims.iter().product());
    for (n, matrix) in a.data.chunks(rows * inner).enumerate() {
        // One matrix for all, or one for each.
        let other =
            if b.dims.len() == 2 { &b.data[..] } else { &b.data[n * inner * columns..][..inner * columns] };
        for row in matrix.chunks(inner) {
            let mut sums = vec![0.0; columns];
            for (x, line) in row.iter().zip(other.chunks(columns)) {
                sums.iter_mut().zip(line).for_each(|(sum, y)| *sum += x * y);
            }
            out.extend(sums);
        }
    }
    Value::new(&dims, out)
}

fn layer_norm(x: &Value, weight: &Value, bias: &Value, eps: f64) -> Value {
    let width = *x.dims.last().unwrap();
    let mut out = Vec::with_capacity(x.data.len());
    for row in x.data.chunks(width) {
        let mean = row.iter().sum::<f64>() / width as f64;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
        let normed = row.iter().map(|v| (v - mean) / (variance + eps).sqrt());
        out.extend(normed.zip(&weight.data).zip(&bias.data).map(|((v, w), b)| v * w + b));
    }
    Value::new(&x.dims, out)
}

fn softmax(x: &Value) -> Value {
    let mut out = Vec::with_capacity(x.data.len());
    for row in x.data.chunks(*x.dims.last().unwrap()) {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|v| (v - most).exp()).sum();
        out.extend(row.iter().map(|v| (v - most).exp() / sum));
    }
    Value::new(&x.dims, out)
}

fn reshape(x: &Value, sizes: &[i64]) -> Value {
    let mut dims: Vec<usize> =
        sizes.iter().enumerate().map(|(i, &n)| if n == 0 { x.dims[i] } else { n.max(1) as usize }).collect();
    if let Some(open) = sizes.iter().position(|&n| n == -1) {
        dims[open] = x.data.len() / dims.iter().product::<usize>();
    }
    Value::new(&dims, x.data.clone())
}

fn transpose(x: &Value, order: &[i64]) -> Value {
    let dims: Vec<usize> = order.iter().map(|&axis| x.dims[axis as usize]).collect();
    let stride = |axis: usize| x.dims[axis + 1..].iter().product::<usize>();
    let mut all = vec![0];
    for &axis in order {
        let (n, stride) = (x.dims[axis as usize], stride(axis as usize));
        all = all.iter().flat_map(|&at| (0..n).map(move |i| at + i * stride)).collect();
    }
    Value::new(&dims, all.into_iter().map(|at| x.data[at]).collect())
}

fn split(x: &Value, axis: i64, parts: &[i64]) -> Vec<Value> {
    let (_, count, inner) = x.around(axis);
    let axis = position(axis, x.dims.len());
    let mut first = 0;
    let part = |&n: &i64| {
        let mut dims = x.dims.clone();
        dims[axis] = n as usize;
        let (from, to) = (first * inner, (first + dims[axis]) * inner);
        first += dims[axis];
        Value::new(&dims, x.data.chunks(count * inner).flat_map(|rows| rows[from..to].to_vec()).collect())
    };
    parts.iter().map(part).collect()
}

fn concat(inputs: &[&Value], axis: i64) -> Value {
    let (outer, ..) = inputs[0].around(axis);
    let mut dims = inputs[0].dims.clone();
    dims[position(axis, inputs[0].dims.len())] = inputs.iter().map(|x| x.around(axis).1).sum();
    let part = |x: &Value, i: usize| {
        let (_, count, inner) = x.around(axis);
        x.data[i * count * inner..][..count * inner].to_vec()
    };
    Value::new(&dims, (0..outer).flat_map(|i| inputs.iter().flat_map(move |x| part(x, i))).collect())
}

fn gather(x: &Value, indices: &Value, axis: i64) -> Value {
    let (outer, count, inner) = x.around(axis);
    let axis = position(axis, x.dims.len());
    let dims: Vec<usize> = [&x.dims[..axis], &indices.dims[..], &x.dims[axis + 1..]].concat();
    let rows = (0..outer).flat_map(|o| indices.data.iter().map(move |&i| o * count + i as usize));
    Value::new(&dims, rows.flat_map(|row| x.data[row * inner..][..inner].to_vec()).collect())
}

/// With one dimension of samples and one index for each.
fn gather_nd(x: &Value, indices: &Value, batch_dims: i64) -> Value {
    let (batch, count, inner) = x.around(1);
    assert_eq!((batch_dims, indices.dims.as_slice()), (1, [batch, 1, 1].as_slice()));
    let row = |n: usize| x.data[(n * count + indices.data[n] as usize) * inner..][..inner].to_vec();
    Value::new(&[batch, 1, inner], (0..batch).flat_map(row).collect())
}
