use crate::frame::{Component, Frame};

/// Decoding at a fraction of the size, by inverse DCTs of fewer samples: quicker, and the pixels are not those that the whole image
/// has when it is resized afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// All pixels.
    #[default]
    None,
    /// Half of the width and of the height.
    Half,
    /// A quarter of each.
    Quarter,
    /// An eighth of each: the mean of every block.
    Eighth,
}

impl Reduction {
    /// The largest reduction of a size that leaves at least `least` (width, height), as Pillow's `draft` chooses it.
    ///
    /// ```
    /// use mobileclip_jpeg::Reduction;
    /// assert_eq!(Reduction::to((1632, 1224), (256, 256)), Reduction::Quarter);
    /// assert_eq!(Reduction::to((300, 200), (256, 256)), Reduction::None);
    /// ```
    pub fn to((width, height): (usize, usize), least: (usize, usize)) -> Self {
        match (width / least.0.max(1)).min(height / least.1.max(1)) {
            0 | 1 => Self::None,
            2 | 3 => Self::Half,
            4..8 => Self::Quarter,
            _ => Self::Eighth,
        }
    }

    /// What is left of a size.
    pub fn size(self, width: usize, height: usize) -> (usize, usize) {
        let divisor = 8 / self.side();
        (width.div_ceil(divisor), height.div_ceil(divisor))
    }

    /// Pixels that a block of 8 gives, in both directions.
    pub(crate) fn side(self) -> usize {
        match self {
            Self::None => 8,
            Self::Half => 4,
            Self::Quarter => 2,
            Self::Eighth => 1,
        }
    }

    /// Samples that a block of this component gives: where there are fewer blocks of it than of others, more samples of each,
    /// which saves upsampling, as long as both directions can do with them.
    pub(crate) fn side_of(self, component: &Component, frame: &Frame) -> usize {
        let mut side = self.side();
        let fits = |side: usize| {
            (frame.h_max * self.side()).is_multiple_of(component.h * side * 2)
                && (frame.v_max * self.side()).is_multiple_of(component.v * side * 2)
        };
        while side < 8 && fits(side) {
            side *= 2;
        }
        side
    }
}
