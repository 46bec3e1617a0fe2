use crate::Error;
use crate::bits::BitReader;
use crate::entropy::EntropyData;
use crate::frame::{Block, Frame, NATURAL_ORDER, Scan};
use crate::huffman::{SymbolTable, extend};
use crate::markers::Tables;
use std::ops::Range;

/// Coefficients whose accuracy block smoothing asks for: DC and the first 9 in zigzag order.
pub(crate) const SMOOTHED: usize = 10;

/// How accurately a component's first coefficients are known: the lowest bit received, -1 if none was.
#[derive(Clone, Copy)]
pub(crate) struct Accuracy {
    pub now: [i8; SMOOTHED],
    /// Before the last scan of the component.
    pub before: [i8; SMOOTHED],
}

impl Accuracy {
    pub const NOTHING: Self = Self { now: [-1; SMOOTHED], before: [0; SMOOTHED] };
}

/// Decodes a progressive scan's share of the coefficients.
pub(crate) struct ProgressiveScan<'f> {
    frame: &'f Frame,
    scan: &'f Scan,
    /// One table for each component (DC) or for the only one (AC); none in a DC refinement.
    tables: Vec<SymbolTable>,
    predictions: [i32; 4],
    /// Blocks that are still to be passed over because their band has ended.
    end_of_band_run: u32,
}

impl<'f> ProgressiveScan<'f> {
    /// Checks the scan's parameters and notes in `accuracy` (by component of the frame) what it will bring.
    pub fn new(
        frame: &'f Frame,
        scan: &'f Scan,
        is_first: bool,
        tables: &Tables,
        accuracy: &mut [Accuracy],
    ) -> Result<Self, Error> {
        let bad = |reason| Err(Error::Malformed { segment: "SOS", reason });
        let (start, end) = (scan.band_start, scan.band_end);
        if start == 0 && end != 0 || start > end || end > 63 || start > 0 && scan.components.len() != 1 {
            return bad("invalid progressive band");
        }
        if scan.bit_high != 0 && scan.bit_low != scan.bit_high - 1 || scan.bit_low > 13 {
            return bad("invalid successive approximation");
        }
        for selected in &scan.components {
            let Accuracy { now, before } = &mut accuracy[selected.index];
            for k in usize::from(start.min(1))..SMOOTHED {
                before[k] = if is_first { 0 } else { now[k] };
            }
            for k in usize::from(start)..=usize::from(end).min(SMOOTHED - 1) {
                now[k] = scan.bit_low as i8;
            }
        }
        let mut needed = Vec::new();
        for selected in &scan.components {
            let (codes, index) = match (start, scan.bit_high) {
                (0, 0) => (&tables.dc, selected.dc_table),
                (0, _) => continue,
                _ => (&tables.ac, selected.ac_table),
            };
            let Some(code) = codes.get(usize::from(index)).and_then(Option::as_ref) else {
                return bad("no Huffman table");
            };
            needed.push(SymbolTable::new(code, start == 0)?);
        }
        Ok(Self { frame, scan, tables: needed, predictions: [0; 4], end_of_band_run: 0 })
    }

    /// Decodes the scan into `coefs`, the whole image's blocks of each component of the frame.
    ///
    /// Returns the last MCU row of the frame for which there were bits.
    pub fn decode(mut self, entropy: &mut EntropyData, coefs: &mut [Vec<Block>]) -> Result<usize, Error> {
        let only = match &self.scan.components[..] {
            [one] => Some((one.index, &self.frame.components[one.index])),
            _ => None,
        };
        let (columns, rows, rows_per_mcu_row) = match only {
            Some((_, component)) => (component.block_columns, component.block_rows, component.v),
            None => (self.frame.mcus_per_row, self.frame.mcu_rows, 1),
        };
        let low = self.scan.bit_low;
        let mut last_good_row = 0;
        for row in 0..rows {
            let mut mcu = 0;
            while mcu < columns {
                let run = entropy.begin(columns - mcu)?;
                if run.is_restart {
                    self.predictions = [0; 4];
                    self.end_of_band_run = 0;
                }
                // libjpeg looks before it reads a restart marker, so one MCU alone behind it does not count.
                if !run.was_exhausted || !run.is_empty && run.mcus > 1 {
                    last_good_row = row / rows_per_mcu_row;
                }
                if !run.is_empty {
                    let (mut reader, length) = entropy.reader();
                    let is_past = if let Some((index, component)) = only {
                        let start = row * component.stride + mcu;
                        let blocks = &mut coefs[index][start..start + run.mcus];
                        let (tables, run) = (&self.tables, &mut self.end_of_band_run);
                        let band = (usize::from(self.scan.band_start), usize::from(self.scan.band_end));
                        match (tables.first(), self.scan.band_start, self.scan.bit_high) {
                            (Some(table), 0, _) => each(&mut reader, length, blocks, |reader, block| {
                                dc_first(reader, table, &mut self.predictions[0], low, block);
                            }),
                            (Some(table), _, 0) => each(&mut reader, length, blocks, |reader, block| {
                                ac_first(reader, table, band, low, run, block);
                            }),
                            (Some(table), ..) => each(&mut reader, length, blocks, |reader, block| {
                                ac_refine(reader, table, band, low, run, block);
                            }),
                            (None, ..) => each(&mut reader, length, blocks, |reader, block| {
                                dc_refine(reader, low, block)
                            }),
                        }
                    } else {
                        self.decode_interleaved(&mut reader, length, coefs, row, mcu..mcu + run.mcus)
                    };
                    let at = reader.position();
                    entropy.end(at, is_past)?;
                }
                mcu += run.mcus;
            }
        }
        Ok(last_good_row)
    }

    /// Decodes MCUs of several components, which only DC scans have; true: the bits ran out.
    fn decode_interleaved(
        &mut self,
        reader: &mut BitReader,
        length: usize,
        coefs: &mut [Vec<Block>],
        row: usize,
        mcus: Range<usize>,
    ) -> bool {
        let low = self.scan.bit_low;
        for mcu in mcus {
            for (i, selected) in self.scan.components.iter().enumerate() {
                let component = &self.frame.components[selected.index];
                for y in 0..component.v {
                    let start = (row * component.v + y) * component.stride + mcu * component.h;
                    for block in &mut coefs[selected.index][start..start + component.h] {
                        match self.tables.get(i) {
                            Some(table) => dc_first(reader, table, &mut self.predictions[i], low, block),
                            None => dc_refine(reader, low, block),
                        }
                    }
                }
            }
            if reader.is_past(length) {
                return true;
            }
        }
        false
    }
}

/// Decodes `blocks` one by one; true: the bits ran out.
#[inline(always)]
fn each(
    reader: &mut BitReader,
    length: usize,
    blocks: &mut [Block],
    mut decode: impl FnMut(&mut BitReader, &mut Block),
) -> bool {
    // A copy stays in registers.
    let mut local = reader.clone();
    let is_past = blocks.iter_mut().any(|block| {
        decode(&mut local, block);
        local.is_past(length)
    });
    *reader = local;
    is_past
}

#[inline(always)]
fn symbol(reader: &mut BitReader, table: &SymbolTable) -> (u32, u32) {
    let (length, symbol) = table.find(reader.peek(16));
    reader.consume(length);
    (u32::from(symbol >> 4), u32::from(symbol & 15))
}

#[inline(always)]
fn dc_first(reader: &mut BitReader, table: &SymbolTable, prediction: &mut i32, low: u8, block: &mut Block) {
    reader.ensure(33);
    let (_, size) = symbol(reader, table);
    *prediction = prediction.wrapping_add(extend(reader.take(size), size));
    block[0] = (*prediction << low) as i16;
}

#[inline(always)]
fn dc_refine(reader: &mut BitReader, low: u8, block: &mut Block) {
    reader.ensure(1);
    block[0] |= (reader.take(1) << low) as i16;
}

#[inline(always)]
fn ac_first(
    reader: &mut BitReader,
    table: &SymbolTable,
    (start, end): (usize, usize),
    low: u8,
    end_of_band_run: &mut u32,
    block: &mut Block,
) {
    if *end_of_band_run > 0 {
        *end_of_band_run -= 1;
        return;
    }
    let mut k = start;
    while k <= end {
        reader.ensure(33);
        let (run, size) = symbol(reader, table);
        if size == 0 {
            if run == 15 {
                k += 16;
                continue;
            }
            *end_of_band_run = (1 << run) + reader.take(run) - 1;
            return;
        }
        k += run as usize;
        block[usize::from(NATURAL_ORDER[k % 256]) % 64] = (extend(reader.take(size), size) << low) as i16;
        k += 1;
    }
}

#[inline(always)]
fn ac_refine(
    reader: &mut BitReader,
    table: &SymbolTable,
    (start, end): (usize, usize),
    low: u8,
    end_of_band_run: &mut u32,
    block: &mut Block,
) {
    // Within a run most blocks have nothing to correct, and a hostile file could have only such ones.
    if *end_of_band_run > 0 && block[1..].iter().fold(0, |all, &c| all | c) == 0 {
        *end_of_band_run -= 1;
        return;
    }
    let plus = 1i16 << low;
    let correct = |reader: &mut BitReader, coefficient: &mut i16| {
        reader.ensure(1);
        if reader.take(1) == 1 && *coefficient & plus == 0 {
            *coefficient = coefficient.wrapping_add(if *coefficient >= 0 { plus } else { -plus });
        }
    };
    let mut k = start;
    if *end_of_band_run == 0 {
        while k <= end {
            reader.ensure(33);
            let (mut run, size) = symbol(reader, table);
            let mut value = 0;
            if size != 0 {
                // The size should be 1, and other ones count as 1.
                value = if reader.take(1) == 1 { plus } else { -plus };
            } else if run != 15 {
                *end_of_band_run = (1 << run) + reader.take(run);
                break;
            }
            // Passes over `run` zeros to the next one, correcting what is not zero on the way.
            while k <= end {
                let coefficient = &mut block[usize::from(NATURAL_ORDER[k % 256]) % 64];
                if *coefficient != 0 {
                    correct(reader, coefficient);
                } else if run == 0 {
                    break;
                } else {
                    run -= 1;
                }
                k += 1;
            }
            if value != 0 {
                block[usize::from(NATURAL_ORDER[k % 256]) % 64] = value;
            }
            k += 1;
        }
    }
    if *end_of_band_run > 0 {
        while k <= end {
            let coefficient = &mut block[usize::from(NATURAL_ORDER[k % 256]) % 64];
            if *coefficient != 0 {
                correct(reader, coefficient);
            }
            k += 1;
        }
        *end_of_band_run -= 1;
    }
}
