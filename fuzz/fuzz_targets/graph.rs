//! Graphs as deploy files hold them: the towers of toy models, changed by the input, or the input itself as JSON.
//!
//! What passes the checks is packed with weights of the shapes it asks for and run on small inputs: whatever a file says,
//! the engine may refuse it, but must not panic nor read outside its buffers.
#![no_main]

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use mobileclip_arch::{Manifest, Tower as Which, Weights};
use mobileclip_engine::{Input, Isa, Pool, Tower};
use mobileclip_graph::{Graph, Node, Op, Value};
use mobileclip_testing::formula::Formula;
use mobileclip_testing::toys::toy;

/// Graphs that need more numbers than this are left out, to stay fast.
const MOST_VALUES: usize = 1 << 20;
const MOST_MULTIPLY_ADDS: u64 = 1 << 24;

static POOLS: LazyLock<[Arc<Pool>; 2]> = LazyLock::new(|| [1, 2].map(|threads| Arc::new(Pool::new(threads))));

static GRAPHS: LazyLock<Vec<Graph>> = LazyLock::new(|| {
    let mut graphs = Vec::new();
    for name in ["nano4", "toy5", "toy_vit_mci", "toy_clip_head80", "nano_v1_mct"] {
        let variant = toy(name);
        for tower in [Which::Image, Which::Text] {
            let mut graph = Graph::trace(&variant, tower, &Formula::of(&Manifest::of(&variant)), &[]);
            let channels = graph.channels();
            for (id, node) in graph.nodes.iter_mut().enumerate() {
                node.names = vec![id.to_string()];
                for (leaf, value, _) in node.op.constants_mut(channels[id]) {
                    *value = Value::Stored(format!("{id}.{leaf}"));
                }
            }
            graphs.push(graph);
        }
    }
    graphs
});

struct Constants(HashMap<String, Vec<f32>>);

impl Constants {
    /// Numbers for everything that the graph asks for, unless they are many or no stored tensors.
    fn of(graph: &mut Graph) -> Option<Self> {
        let (channels, mut left) = (graph.channels(), MOST_VALUES);
        let mut constants = HashMap::new();
        for (node, channels) in graph.nodes.iter_mut().zip(channels) {
            for (_, value, shape) in node.op.constants_mut(channels) {
                let Value::Stored(name) = value else { return None };
                let len = shape.iter().try_fold(1usize, |len, &n| len.checked_mul(n))?;
                left = left.checked_sub(len)?;
                let values: Vec<f32> = (0..len).map(|i| (i * 7 % 13) as f32 / 64.0 - 0.1).collect();
                if constants.insert(name.clone(), values).is_some_and(|old| old.len() != len) {
                    return None;
                }
            }
        }
        Some(Self(constants))
    }
}

impl Weights for Constants {
    fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn f32(&self, name: &str) -> Cow<'_, [f32]> {
        Cow::Borrowed(&self.0[name])
    }
}

/// The bytes of the input, zeros after its end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.byte() << 8 | self.byte()) % n.max(1)
    }

    fn number(&mut self) -> u64 {
        const LIKELY: [u64; 24] = [
            0,
            1,
            2,
            3,
            7,
            8,
            15,
            16,
            17,
            32,
            48,
            64,
            96,
            128,
            1023,
            1024,
            65_536,
            1 << 20,
            1 << 21,
            1 << 31,
            1 << 32,
            1 << 40,
            1 << 62,
            u64::MAX,
        ];
        match self.byte() {
            at @ 0..24 => LIKELY[at],
            more => (more as u64 - 24) << (self.byte() % 12),
        }
    }
}

/// Numbers and truth values of a graph in JSON, but for those that name nodes.
fn leaves<'a>(json: &'a mut serde_json::Value, found: &mut Vec<&'a mut serde_json::Value>) {
    match json {
        serde_json::Value::Object(fields) => fields.values_mut().for_each(|field| leaves(field, found)),
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| leaves(item, found)),
        serde_json::Value::Number(_) | serde_json::Value::Bool(_) => found.push(json),
        _ => {}
    }
}

fn change(graph: &mut Graph, bytes: &mut Bytes) -> Option<()> {
    let count = graph.nodes.len();
    if count == 0 {
        return None;
    }
    let (kind, id) = (bytes.byte() % 10, bytes.below(count));
    match kind {
        0 => {
            let from = graph.nodes[bytes.below(count)].op.clone();
            graph.nodes[id].op = from;
        }
        1 => {
            let input = bytes.below(count);
            let inputs = &mut graph.nodes[id].inputs;
            let place = bytes.below(inputs.len());
            *inputs.get_mut(place)? = input;
        }
        2 => graph.output = id,
        3 => graph.taps.push((id.to_string(), id)),
        4 => drop(graph.nodes.remove(id)),
        5 => {
            // After the node, whose readers then read the new one.
            let op = match bytes.byte() % 6 {
                0 => Op::MeanPool,
                1 => Op::TakeFirst,
                2 => Op::Add,
                3 => Op::Gate { activation: None },
                4 => Op::ClassToken { token: Value::Stored(format!("new {count}.token")) },
                _ => graph.nodes[bytes.below(count)].op.clone(),
            };
            let second = matches!(op, Op::Add | Op::Gate { .. }).then(|| bytes.below(id + 1));
            for node in &mut graph.nodes {
                node.inputs.iter_mut().filter(|input| **input > id).for_each(|input| *input += 1);
            }
            let inputs = [Some(id), second].into_iter().flatten().collect();
            graph.nodes.insert(id + 1, Node { op, inputs, names: vec!["new".to_owned()] });
            if let Some(node) = graph.nodes.get_mut(id + 2)
                && let Some(input) = node.inputs.first_mut()
            {
                *input = id + 1;
            }
            graph.output += usize::from(graph.output > id);
        }
        6 => {
            let input = bytes.below(count);
            graph.nodes[id].inputs.push(input);
        }
        7 => graph.tower = if bytes.byte() % 2 == 0 { Which::Image } else { Which::Text },
        _ => {
            let mut json = serde_json::to_value(&graph.nodes[id].op).ok()?;
            let mut found = Vec::new();
            leaves(&mut json, &mut found);
            let place = bytes.below(found.len());
            let leaf = found.get_mut(place)?;
            **leaf = match leaf {
                serde_json::Value::Bool(value) => (!*value).into(),
                _ => bytes.number().into(),
            };
            graph.nodes[id].op = serde_json::from_value(json).ok()?;
        }
    }
    Some(())
}

fn check(mut graph: Graph, isa: Isa, pool: &Arc<Pool>, sizes: &[(usize, usize)]) {
    if graph.check().is_err() {
        return;
    }
    // Borders are memory that no shape tells of.
    let is_wide =
        |node: &Node| matches!(&node.op, Op::Conv { conv, .. } if conv.padding.0.max(conv.padding.1) > 64);
    if graph.nodes.len() > 256 || graph.nodes.iter().any(is_wide) {
        return;
    }
    let Some(constants) = Constants::of(&mut graph) else { return };
    let constants: Arc<dyn Weights> = Arc::new(constants);
    let costs = |(height, width): (usize, usize)| {
        let shapes = graph.shapes(height, width)?;
        let values = shapes.iter().try_fold(0usize, |sum, shape| sum.checked_add(shape.elements()))?;
        let cost = graph.multiply_adds(&shapes).iter().fold(0u64, |sum, &n| sum.saturating_add(n));
        (values <= MOST_VALUES && cost <= MOST_MULTIPLY_ADDS).then_some((height, width))
    };
    let sizes: Vec<(usize, usize)> = sizes.iter().filter_map(|&size| costs(size)).collect();
    let Some(&usual) = sizes.first() else { return };
    let is_image = graph.tower == Which::Image;
    let Ok(tower) = Tower::new(graph, constants, isa, Arc::clone(pool), usual) else { return };
    for (height, width) in sizes {
        let pixels: Vec<f32> = (0..3 * height * width).map(|i| (i % 11) as f32 / 8.0 - 0.5).collect();
        let ids: Vec<u32> = (0..width as u32).map(|i| i % 5).collect();
        let input = match is_image {
            true => Input::Pixels { height, width, values: &pixels },
            false => Input::Ids(&ids),
        };
        if let Ok(output) = tower.run(input) {
            let shapes = tower.graph().shapes(height, width).expect("what ran has shapes");
            assert_eq!(output.features.len(), shapes[tower.graph().output].elements());
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let isas = Isa::available();
    if data.first() == Some(&b'{') {
        let Ok(graph) = serde_json::from_slice::<Graph>(data) else { return };
        return check(graph, isas[isas.len() - 1], &POOLS[1], &[(32, 32), (1, 8)]);
    }
    let mut bytes = Bytes(data);
    let mut graph = GRAPHS[bytes.byte() % GRAPHS.len()].clone();
    let (isa, pool) = (isas[bytes.byte() % isas.len()], &POOLS[bytes.byte() % 2]);
    let mut sizes = match graph.tower {
        Which::Image => vec![(64, 64), (32, 48)],
        Which::Text => vec![(1, 8), (1, 5), (1, 77)],
    };
    if bytes.byte() % 8 == 0 {
        sizes.push((1 + bytes.byte(), 1 + bytes.byte()));
    }
    while !bytes.0.is_empty() {
        if change(&mut graph, &mut bytes).is_none() {
            return;
        }
    }
    check(graph, isa, pool, &sizes);
});
