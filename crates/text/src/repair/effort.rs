//! A bound on the work that one text may cause.
//!
//! The steps are repeated until the text is stable. Honest text is so after two or three rounds; a text made
//! for it can lose one character in each, which takes time quadratic in its length. The bound is out of
//! reach for any text of up to 10,000 characters; where it is hit in a longer one, the rounds end and the
//! text stays as it is then.

/// Work for a text of any length, in units of a non-ASCII byte looked at by one round.
const BASE: u64 = 1 << 27;
/// Work for each byte of the text.
const ROUNDS: u64 = 16;
/// How much cheaper a round is that sees ASCII alone.
const ASCII_DISCOUNT: u64 = 16;

/// The work that is left.
pub(crate) struct Effort {
    left: u64,
}

impl Effort {
    pub(crate) fn for_text(text: &str) -> Self {
        Effort { left: BASE + ROUNDS * text.len() as u64 }
    }

    /// Pay for one round over `text`; whether there was enough left for it.
    pub(crate) fn spend(&mut self, text: &str) -> bool {
        let bytes = text.len() as u64;
        let cost = if text.is_ascii() { bytes.div_ceil(ASCII_DISCOUNT) } else { bytes };
        let enough = cost <= self.left;
        self.left = self.left.saturating_sub(cost);
        enough
    }
}
