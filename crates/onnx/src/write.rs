//! From nodes to bytes, one weight at a time.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use mobileclip_arch::Weights;
use mobileclip_graph::Graph;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::IR_VERSION;
use crate::builder::{Builder, Initializer, Numbers, Settings};
use crate::error::{Error, Result};
use crate::proto::{self, OperatorSetId, StringStringEntry, Tensor};
use crate::translate::translate;

/// Protobuf messages hold less than 2 GiB, and this much is left for everything but weights.
const LARGEST_INSIDE: u64 = (1 << 31) - (64 << 20);
/// Smaller constants stay in the model's own file, where tools that read shapes expect them.
const SMALLEST_OUTSIDE: u64 = 1024;
/// Weights in a file of their own begin at pages, so that they can be mapped.
const PAGE: u64 = 4096;
/// Numbers of the messages' fields (`onnx.proto`), of those that are streamed.
const MODEL_GRAPH: u32 = 7;
const GRAPH_INITIALIZER: u32 = 5;
const TENSOR_RAW_DATA: u32 = 9;
/// Weights after which a mapped checkpoint is told that its pages may go.
const RELEASE_EVERY: usize = 16;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The model's file.
    pub model: PathBuf,
    /// The file of its weights, if they have one of their own.
    pub data: Option<PathBuf>,
}

/// Writes a graph as an ONNX model to `path`, and large or unwanted weights to `path` with `.data` behind.
///
/// Existing files are overwritten, and a failure leaves a part of one: the caller stages.
///
/// # Errors
/// If the graph takes no input of the settings' size, a weight is not finite or has another length than the graph says, or a
/// file cannot be written.
pub fn write(graph: &Graph, weights: &dyn Weights, settings: &Settings, path: &Path) -> Result<Written> {
    let builder = translate(graph, settings)?;
    let bytes: u64 = builder.initializers.iter().map(Initializer::bytes).sum();
    let is_external = settings.external_data || bytes > LARGEST_INSIDE;
    let data = is_external.then(|| with_data_suffix(path));
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::Io { path, source }
    };

    let (model, graph_message) = messages(&builder, settings, graph);
    let location = data.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let tensors = tensors(&builder.initializers, location.as_deref());
    let inside =
        |i: usize| if tensors[i].data_location.is_none() { builder.initializers[i].bytes() } else { 0 };
    let graph_len: u64 = graph_message.encoded_len() as u64
        + (0..tensors.len())
            .map(|i| field_len(tensor_len(&tensors[i], inside(i)), GRAPH_INITIALIZER))
            .sum::<u64>();

    let mut out = BufWriter::new(File::create(path).map_err(io(path))?);
    let mut head = model.encode_to_vec();
    encode_key(MODEL_GRAPH, WireType::LengthDelimited, &mut head);
    encode_varint(graph_len, &mut head);
    head.extend(graph_message.encode_to_vec());
    out.write_all(&head).map_err(io(path))?;

    let mut outside = match &data {
        Some(data) => Some((BufWriter::new(File::create(data).map_err(io(data))?), 0u64)),
        None => None,
    };
    for (i, (initializer, tensor)) in builder.initializers.iter().zip(&tensors).enumerate() {
        let numbers = checked(initializer, weights)?;
        let mut head = Vec::new();
        encode_key(GRAPH_INITIALIZER, WireType::LengthDelimited, &mut head);
        encode_varint(tensor_len(tensor, inside(i)), &mut head);
        head.extend(tensor.encode_to_vec());
        match (&mut outside, &data, tensor.data_location) {
            (Some((file, at)), Some(data), Some(_)) => {
                let gap = at.next_multiple_of(PAGE) - *at;
                *at += gap + initializer.bytes();
                let padding = vec![0; gap as usize];
                file.write_all(&padding).and_then(|()| write_numbers(file, &numbers)).map_err(io(data))?;
                out.write_all(&head).map_err(io(path))?;
            }
            _ => {
                encode_key(TENSOR_RAW_DATA, WireType::LengthDelimited, &mut head);
                encode_varint(initializer.bytes(), &mut head);
                out.write_all(&head).and_then(|()| write_numbers(&mut out, &numbers)).map_err(io(path))?;
            }
        }
        if i % RELEASE_EVERY == 0 {
            weights.release();
        }
    }
    weights.release();
    finish(out).map_err(io(path))?;
    if let (Some((file, _)), Some(data)) = (outside, &data) {
        finish(file).map_err(io(data))?;
    }
    Ok(Written { model: path.to_path_buf(), data })
}

fn finish(out: BufWriter<File>) -> io::Result<()> {
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn with_data_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".data");
    PathBuf::from(name)
}

/// Everything but the constants.
fn messages(builder: &Builder, settings: &Settings, graph: &Graph) -> (proto::Model, proto::Graph) {
    let entry =
        |key: &str, value: String| StringStringEntry { key: Some(key.to_owned()), value: Some(value) };
    let model = proto::Model {
        ir_version: Some(IR_VERSION),
        producer_name: Some("mobileclip".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        doc_string: Some(settings.description.clone()),
        graph: None,
        opset_import: vec![OperatorSetId { domain: Some(String::new()), version: Some(builder.opset) }],
        metadata_props: settings.metadata.iter().map(|(key, value)| entry(key, value.clone())).collect(),
    };
    let graph_message = proto::Graph {
        node: builder.nodes.clone(),
        name: Some(format!("{:?}", graph.tower).to_lowercase()),
        initializer: Vec::new(),
        input: builder.inputs.clone(),
        output: builder.outputs.clone(),
    };
    (model, graph_message)
}

/// The constants' messages without their numbers; `location` is the name of the file that holds those.
fn tensors(initializers: &[Initializer], location: Option<&str>) -> Vec<Tensor> {
    let mut at = 0u64;
    let entry =
        |key: &str, value: String| StringStringEntry { key: Some(key.to_owned()), value: Some(value) };
    let tensor = |initializer: &Initializer| {
        let mut tensor = Tensor {
            dims: initializer.dims.iter().map(|&n| n as i64).collect(),
            data_type: Some(initializer.data.data_type() as i32),
            name: Some(initializer.name.clone()),
            ..Tensor::default()
        };
        let bytes = initializer.bytes();
        if let Some(location) = location.filter(|_| bytes >= SMALLEST_OUTSIDE) {
            at = at.next_multiple_of(PAGE);
            let facts = [
                ("location", location.to_owned()),
                ("offset", at.to_string()),
                ("length", bytes.to_string()),
            ];
            tensor.external_data = facts.map(|(key, value)| entry(key, value)).into();
            tensor.data_location = Some(1);
            at += bytes;
        }
        tensor
    };
    initializers.iter().map(tensor).collect()
}

/// Bytes of a constant's message with so many bytes of numbers inside (0 for a constant elsewhere).
fn tensor_len(tensor: &Tensor, inside: u64) -> u64 {
    let numbers = if tensor.data_location.is_some() { 0 } else { field_len(inside, TENSOR_RAW_DATA) };
    tensor.encoded_len() as u64 + numbers
}

/// Bytes of a field of so many bytes, with its key and length.
fn field_len(bytes: u64, field: u32) -> u64 {
    (prost::encoding::key_len(field) + encoded_len_varint(bytes)) as u64 + bytes
}

fn checked<'w>(initializer: &'w Initializer, weights: &'w dyn Weights) -> Result<Numbers<'w>> {
    let numbers = initializer.data.numbers(weights);
    let name = || initializer.name.clone();
    let found = match &numbers {
        Numbers::Floats(values) => values.len(),
        Numbers::Doubles(values) => values.len(),
        Numbers::Ints(values) => values.len(),
    };
    if found != initializer.elements() {
        return Err(Error::Length { name: name(), found, expected: initializer.elements() });
    }
    if let Numbers::Floats(values) = &numbers {
        // One pass that vectorises, the slow look for the place only if it fails.
        if !values.iter().fold(true, |all, v| all & v.is_finite()) {
            let index = values.iter().position(|v| !v.is_finite()).unwrap_or_default();
            return Err(Error::NotFinite { name: name(), value: values[index], index });
        }
    }
    Ok(numbers)
}

fn write_numbers(out: &mut impl Write, numbers: &Numbers) -> io::Result<()> {
    match numbers {
        Numbers::Floats(values) => write_chunks(out, values, |v| v.to_le_bytes()),
        Numbers::Doubles(values) => write_chunks(out, values, |v| v.to_le_bytes()),
        Numbers::Ints(values) => write_chunks(out, values, |v| v.to_le_bytes()),
    }
}

fn write_chunks<T: Copy, const N: usize>(
    out: &mut impl Write,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(N * 4096);
    for chunk in values.chunks(4096) {
        buffer.clear();
        chunk.iter().for_each(|&value| buffer.extend_from_slice(&bytes(value)));
        out.write_all(&buffer)?;
    }
    Ok(())
}
