//! Self-attention as the products and the softmax that runtimes recognise.

use mobileclip_arch::Attention;

use crate::builder::Data;
use crate::proto::Attribute;
use crate::translate::Translation;

impl Translation<'_> {
    /// `qkv: [N, T, 3 D]` → `[N, T, D]`.
    pub(crate) fn attention(
        &mut self,
        place: &str,
        attention: &Attention,
        tokens: usize,
        qkv: &str,
    ) -> String {
        let builder = &mut self.builder;
        let int = |n: usize| n as i64;
        let parts = builder.ints(&[int(attention.width()); 3]);
        let parts = builder.node_of(place, "Split", &[qkv, &parts], vec![Attribute::int("axis", 2)], 3);
        let heads = builder.ints(&[0, 0, int(attention.heads), int(attention.head_width)]);
        let mut split = |part: usize, order: [i64; 4]| {
            let heads = builder.node(place, "Reshape", &[&parts[part], &heads], Vec::new());
            builder.node(place, "Transpose", &[&heads], vec![Attribute::ints("perm", &order)])
        };
        let (q, k, v) = (split(0, [0, 2, 1, 3]), split(1, [0, 2, 3, 1]), split(2, [0, 2, 1, 3]));
        let scale = builder.number((attention.head_width as f32).sqrt().recip());
        let q = builder.node(place, "Mul", &[&q, &scale], Vec::new());
        let mut scores = builder.node(place, "MatMul", &[&q, &k], Vec::new());
        if attention.is_causal {
            let mask = self.causal_mask(tokens);
            scores = self.builder.node(place, "Add", &[&scores, &mask], Vec::new());
        }
        let builder = &mut self.builder;
        let shares = builder.node(place, "Softmax", &[&scores], vec![Attribute::int("axis", -1)]);
        let mixed = builder.node(place, "MatMul", &[&shares, &v], Vec::new());
        let mixed = builder.node(place, "Transpose", &[&mixed], vec![Attribute::ints("perm", &[0, 2, 1, 3])]);
        let flat = builder.ints(&[0, 0, int(attention.width())]);
        builder.node(place, "Reshape", &[&mixed, &flat], Vec::new())
    }

    /// What is added to the scores `[T, T]` so that no token sees what stands behind it, made once for all blocks.
    fn causal_mask(&mut self, tokens: usize) -> String {
        // The lowest finite number: infinities make trouble where ranges are measured for quantisation.
        let mask = (0..tokens * tokens).map(|i| if i % tokens > i / tokens { f32::MIN } else { 0.0 });
        self.builder.shared("causal_mask".to_owned(), &[tokens, tokens], || Data::Floats(mask.collect()))
    }
}
