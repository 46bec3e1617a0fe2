//! A packed graph, and its runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use mobileclip_arch::{Shape, Weights};
use mobileclip_graph::{Graph, NodeId, Op};
use mobileclip_kernels::{Isa, MapRef, Pool, Precision, unpack_planar, unpack_rows};

use crate::decoder::TextStep;
use crate::error::EngineError;
use crate::layer::Layer;
use crate::plan::{Arena, Plan};
use crate::precision::precisions;
use crate::run::Run;

/// Plans of this many input shapes are kept.
const KEPT_PLANS: usize = 80;

/// Nodes packed between two releases of the file's pages.
const RELEASE_EVERY: usize = 16;

/// One input.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Normalised pixels `[3][height][width]`.
    Pixels {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// `3 · height · width` values.
        values: &'a [f32],
    },
    /// Token ids.
    Ids(&'a [u32]),
}

/// What one input gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The features, not normalised.
    pub features: Vec<f32>,
    /// The tapped scopes in the graph's order.
    pub taps: Vec<FeatureMap>,
}

/// The output of one scope.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureMap {
    /// The scope's name.
    pub name: String,
    /// Its shape; tokens have height 1.
    pub shape: Shape,
    /// `[C][H][W]`.
    pub values: Vec<f32>,
}

/// A tower, packed for one instruction set. It can be run by many threads at once.
pub struct Tower {
    graph: Graph,
    layers: Vec<Layer>,
    weights: Arc<dyn Weights>,
    isa: Isa,
    pool: Arc<Pool>,
    precisions: Vec<Precision>,
    plans: Mutex<Vec<Arc<Ready>>>,
}

/// A plan and the arenas that are free.
struct Ready {
    plan: Plan,
    arenas: Mutex<Vec<Arena>>,
}

impl Tower {
    /// Packs a graph's weights. `usual` is the height and width of the inputs that it should be fastest for; products are made
    /// in `precision`, but for some that would lose too much.
    ///
    /// # Errors
    /// [`EngineError::NotFinite`] for a damaged checkpoint, [`EngineError::Unsupported`] for a graph that no kernel
    /// runs.
    pub fn new(
        graph: Graph,
        weights: Arc<dyn Weights>,
        isa: Isa,
        pool: Arc<Pool>,
        usual: (usize, usize),
        precision: Precision,
    ) -> Result<Self, EngineError> {
        let channels = graph.channels();
        let (height, width) = usual;
        let shapes = graph.shapes(height, width);
        let shapes = shapes.ok_or(EngineError::InputSize { tower: graph.tower, height, width })?;
        let precisions = precisions(&graph, &shapes, precision);
        let packed: Vec<OnceLock<Result<Layer, EngineError>>> =
            graph.nodes.iter().map(|_| OnceLock::new()).collect();
        // What is used where it lies must stay.
        let is_read_once = AtomicBool::new(true);
        let release = || is_read_once.load(Relaxed).then(|| weights.release());
        pool.for_each(graph.nodes.len(), |_, id| {
            packed[id].get_or_init(|| {
                let pixels = shapes[id].pixels();
                let layer = Layer::pack(&graph, id, &channels, pixels, weights.as_ref(), isa, precisions[id]);
                if matches!(&layer, Ok(Layer::Gemm(gemm)) if gemm.is_shared()) {
                    is_read_once.store(false, Relaxed);
                }
                // Often enough that the file's pages never add up to much, not so often that reading suffers.
                if id % RELEASE_EVERY == 0 {
                    release();
                }
                layer
            });
        });
        release();
        let layers = packed.into_iter().filter_map(OnceLock::into_inner).collect::<Result<_, _>>()?;
        Ok(Self { graph, layers, weights, isa, pool, precisions, plans: Mutex::default() })
    }

    /// The graph it runs.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What the products of a node are made of; `None` if it has none.
    pub fn precision(&self, node: NodeId) -> Option<Precision> {
        let is_product = matches!(self.layers.get(node)?, Layer::Gemm(_) | Layer::Conv(_));
        (is_product || matches!(self.graph.nodes[node].op, Op::Attention(_))).then(|| self.precisions[node])
    }

    /// Runs one input with all threads.
    ///
    /// # Errors
    /// If the input does not fit the tower.
    pub fn run(&self, input: Input) -> Result<Output, EngineError> {
        self.run_with(input, None, None, |plan, arena| self.collect(plan, arena))
    }

    /// Runs one input and says how long each node took: by the clock, or where threads work on different nodes, the sum
    /// over the threads divided by their number.
    ///
    /// # Errors
    /// As [`Tower::run`].
    pub fn profile(&self, input: Input) -> Result<Vec<Duration>, EngineError> {
        let times: Vec<AtomicU64> = self.graph.nodes.iter().map(|_| AtomicU64::new(0)).collect();
        self.run_with(input, None, Some(&times), |_, _| ())?;
        Ok(times.into_iter().map(|nanos| Duration::from_nanos(nanos.into_inner())).collect())
    }

    /// Runs many inputs, one on each thread; the results are those of [`Tower::run`], bit for bit.
    ///
    /// # Errors
    /// The first input's that does not fit the tower.
    pub fn run_batch(&self, inputs: &[Input]) -> Result<Vec<Output>, EngineError> {
        let threads = self.pool.threads();
        let (together, rest) = inputs.split_at(inputs.len() / threads * threads);
        let outputs: Vec<OnceLock<Result<Output, EngineError>>> =
            together.iter().map(|_| OnceLock::new()).collect();
        // Inside, the pool is busy, so that each run stays on its thread.
        self.pool.for_each(together.len(), |_, i| {
            outputs[i].get_or_init(|| self.run(together[i]));
        });
        let together = outputs.into_iter().filter_map(OnceLock::into_inner);
        together.chain(rest.iter().map(|&input| self.run(input))).collect()
    }

    /// Continues texts by these ids and gives the output `[ids][channels]`.
    pub(crate) fn run_step(&self, input: Input, step: &TextStep) -> Result<Vec<f32>, EngineError> {
        self.run_with(input, Some(step), None, |plan, arena| {
            let (shape, output) =
                (plan.shapes[self.graph.output], self.output(plan, arena, self.graph.output));
            let mut rows = vec![0.0; shape.elements()];
            unpack_rows(output, shape.channels, &mut rows);
            rows
        })
    }

    fn run_with<R>(
        &self,
        input: Input,
        step: Option<&TextStep>,
        times: Option<&[AtomicU64]>,
        collect: impl FnOnce(&Plan, &Arena) -> R,
    ) -> Result<R, EngineError> {
        if self.graph.continues_texts() != step.is_some() {
            return Err(EngineError::InputKind { tower: self.graph.tower });
        }
        let (height, width) = self.check(input)?;
        let ready = self.ready(height, width)?;
        let threads = self.pool.threads();
        let mut arena = lock(&ready.arenas).pop().unwrap_or_else(|| ready.plan.arena(threads));
        let run = Run {
            graph: &self.graph,
            layers: &self.layers,
            weights: self.weights.as_ref(),
            precisions: &self.precisions,
            isa: self.isa,
            pool: &self.pool,
            plan: &ready.plan,
            input,
            step,
        };
        for step in &ready.plan.steps {
            run.step(step, &mut arena, times);
        }
        let output = collect(&ready.plan, &arena);
        lock(&ready.arenas).push(arena);
        Ok(output)
    }

    fn collect(&self, plan: &Plan, arena: &Arena) -> Output {
        let planar = |id: usize| {
            let shape = plan.shapes[id];
            let mut values = vec![0.0; shape.elements()];
            unpack_planar(self.output(plan, arena, id), shape.channels, &mut values);
            (shape, values)
        };
        let taps = self.graph.taps.iter().map(|(name, id)| {
            let (shape, values) = planar(*id);
            FeatureMap { name: name.clone(), shape, values }
        });
        Output { taps: taps.collect(), features: planar(self.graph.output).1 }
    }

    fn output<'a>(&self, plan: &Plan, arena: &'a Arena, id: NodeId) -> MapRef<'a> {
        let slot = plan.slots[id].map_or(&[][..], |slot| &arena.slots[slot]);
        MapRef::new(plan.maps[id], slot)
    }

    /// Height and width of an input that fits.
    fn check(&self, input: Input) -> Result<(usize, usize), EngineError> {
        use mobileclip_arch::Tower::{Image, Text};
        let tower = self.graph.tower;
        match (tower, input) {
            (Image, Input::Pixels { height, width, values }) => {
                let expected = height.saturating_mul(width).saturating_mul(3);
                let found = values.len();
                match expected == found {
                    true => Ok((height, width)),
                    false => Err(EngineError::InputLength { height, width, expected, found }),
                }
            }
            (Text, Input::Ids(ids)) => {
                let vocabularies = self.layers.iter().filter_map(|layer| match layer {
                    Layer::Embed { vocabulary, .. } => Some(*vocabulary),
                    _ => None,
                });
                let vocabulary = vocabularies.min().unwrap_or(usize::MAX);
                match ids.iter().position(|&id| id as usize >= vocabulary) {
                    Some(position) => Err(EngineError::Token { id: ids[position], position, vocabulary }),
                    None => Ok((1, ids.len())),
                }
            }
            _ => Err(EngineError::InputKind { tower }),
        }
    }

    fn ready(&self, height: usize, width: usize) -> Result<Arc<Ready>, EngineError> {
        let fits = |ready: &&Arc<Ready>| (ready.plan.height, ready.plan.width) == (height, width);
        if let Some(ready) = lock(&self.plans).iter().find(fits) {
            return Ok(Arc::clone(ready));
        }
        let threads = self.pool.threads();
        let plan = Plan::new(&self.graph, &self.layers, self.isa, threads, (height, width));
        let plan = plan.ok_or(EngineError::InputSize { tower: self.graph.tower, height, width })?;
        let ready = Arc::new(Ready { plan, arenas: Mutex::default() });
        let mut plans = lock(&self.plans);
        if plans.len() == KEPT_PLANS {
            plans.remove(0);
        }
        plans.push(Arc::clone(&ready));
        Ok(ready)
    }

    /// Multiply-adds of convolutions and matrix products for an input of this shape.
    pub fn multiply_adds(&self, height: usize, width: usize) -> Option<u64> {
        let shapes = self.graph.shapes(height, width)?;
        Some(self.graph.multiply_adds(&shapes).into_iter().fold(0, u64::saturating_add))
    }

    /// The causal rule: whether features depend on no token behind the end mark.
    pub fn is_causal(&self) -> bool {
        let mut attentions = self.graph.nodes.iter().filter_map(|node| match &node.op {
            Op::Attention(attention) => Some(attention.is_causal),
            // The class token sees the first padding.
            Op::PaddedAttention(_) => Some(false),
            _ => None,
        });
        attentions.all(|is_causal| is_causal)
    }
}

/// A panic in one run leaves plans and arenas whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
