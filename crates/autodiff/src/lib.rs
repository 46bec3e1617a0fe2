//! `Train`: the reading of the architecture that gives activations and gradients.
//!
//! - [`Parameters`] holds a model's tensors by canonical name, [`Gradients`] what backward adds up for them.
//! - [`Train`] implements [`Ops`](mobileclip_arch::Ops): running the program records a tape of operations;
//!   [`Train::backward`] walks it back. BatchNorm's new statistics go to a side list ([`BatchStatistics`]).
//! - [`Device`] is what computes: forward and backward of every operation. [`Cpu`] does it with `kernels`; [`Ledger`] only counts what
//!   memory that would take.
//!
//! ```
//! use mobileclip_arch::Manifest;
//! use mobileclip_autodiff::{Cpu, Gradients, Parameters, Train, TrainOptions};
//! # let variant = mobileclip_testing::toys::toy("train_toy");
//! # let formula = mobileclip_testing::formula::Formula::of(&Manifest::of(&variant));
//! let mut parameters = Parameters::new(&Manifest::of(&variant), &formula);
//! let cpu = Cpu::new(1);
//! let train = Train::new(&cpu, &parameters, TrainOptions::default());
//! let image = train.images(2, 64, 64, &vec![0.5; 2 * 3 * 64 * 64]);
//! let features = variant.encode_image(&train, &image);
//! let rows = train.rows(&features);
//! let mut gradients = Gradients::new(&parameters);
//! let statistics = train.backward(&[(features, &rows)], &mut gradients);
//! parameters.apply(&statistics);
//! assert!(gradients.get(parameters.index("visual.trunk.head.fc.weight").unwrap()).is_some());
//! ```
#![forbid(unsafe_code)]

mod cpu;
mod device;
mod ledger;
mod operations;
mod parameters;
mod random;
mod tape;
mod train;

pub use cpu::Cpu;
pub use device::{Device, Matrix, Moments};
pub use ledger::{Ledger, Sheet};
pub use parameters::{BatchStatistics, Gradients, Parameters};
pub use random::Random;
pub use train::{BatchNormMode, Tensor, Train, TrainOptions};
