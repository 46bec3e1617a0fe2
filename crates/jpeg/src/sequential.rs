use crate::Error;
use crate::bits::BitReader;
use crate::entropy::EntropyData;
use crate::frame::{Block, Frame, NATURAL_ORDER, Scan};
use crate::huffman::{CoefficientTable, LOOKUP_BITS, NO_COEFFICIENT, extend};
use crate::markers::Tables;

/// Decodes a sequential scan's coefficients.
pub(crate) struct SequentialScan {
    components: Vec<Part>,
    pub mcus_per_row: usize,
    pub mcu_rows: usize,
}

struct Part {
    /// Index into the frame's components.
    index: usize,
    dc: CoefficientTable,
    ac: CoefficientTable,
    /// Blocks of this component in an MCU, across and down.
    across: usize,
    down: usize,
    stride: usize,
    prediction: i32,
}

impl SequentialScan {
    pub fn new(frame: &Frame, scan: &Scan, tables: &Tables) -> Result<Self, Error> {
        let is_interleaved = scan.components.len() > 1;
        let mut components = Vec::with_capacity(scan.components.len());
        for selected in &scan.components {
            let component = &frame.components[selected.index];
            let table = |codes: &[Option<_>; 4], index: u8, is_dc| {
                let code = codes.get(usize::from(index)).and_then(Option::as_ref);
                CoefficientTable::new(
                    code.ok_or(Error::Malformed { segment: "SOS", reason: "no Huffman table" })?,
                    is_dc,
                )
            };
            components.push(Part {
                index: selected.index,
                dc: table(&tables.dc, selected.dc_table, true)?,
                ac: table(&tables.ac, selected.ac_table, false)?,
                across: if is_interleaved { component.h } else { 1 },
                down: if is_interleaved { component.v } else { 1 },
                stride: component.stride,
                prediction: 0,
            });
        }
        let (mcus_per_row, mcu_rows) = match &scan.components[..] {
            [one] => (frame.components[one.index].block_columns, frame.components[one.index].block_rows),
            _ => (frame.mcus_per_row, frame.mcu_rows),
        };
        Ok(Self { components, mcus_per_row, mcu_rows })
    }

    /// Decodes one row of MCUs into `coefs`, each component's blocks from MCU row `first_row` on.
    ///
    /// Coefficients are stored where they are not 0; others stay as they are.
    pub fn decode_row(
        &mut self,
        entropy: &mut EntropyData,
        coefs: &mut [Vec<Block>],
        first_row: usize,
    ) -> Result<(), Error> {
        let mut mcu = 0;
        while mcu < self.mcus_per_row {
            let run = entropy.begin(self.mcus_per_row - mcu)?;
            if run.is_restart {
                self.components.iter_mut().for_each(|part| part.prediction = 0);
            }
            if !run.is_empty {
                let (mut reader, length) = entropy.reader();
                let mut is_past = false;
                for mcu in mcu..mcu + run.mcus {
                    for part in &mut self.components {
                        let plane = &mut coefs[part.index];
                        for y in 0..part.down {
                            let start = (first_row * part.down + y) * part.stride + mcu * part.across;
                            for block in &mut plane[start..start + part.across] {
                                decode_block(&mut reader, part, block);
                            }
                        }
                    }
                    if reader.is_past(length) {
                        is_past = true;
                        break;
                    }
                }
                let at = reader.position();
                entropy.end(at, is_past)?;
            }
            mcu += run.mcus;
        }
        Ok(())
    }
}

#[inline(always)]
fn decode_block(reader: &mut BitReader, part: &mut Part, block: &mut Block) {
    reader.refill();
    let entry = part.dc.fast[reader.peek(LOOKUP_BITS) as usize];
    let difference = if entry & 0xFF != 0 {
        reader.consume(entry & 0xFF);
        entry as i32 >> 16
    } else {
        let (length, size) = part.dc.symbols.find(reader.peek(16));
        reader.consume(length);
        let bits = reader.take(u32::from(size));
        extend(bits, u32::from(size))
    };
    // Damaged data can overflow the prediction, and its 16 low bits count.
    part.prediction = part.prediction.wrapping_add(difference);
    block[0] = part.prediction as i16;

    let mut k = 1;
    while k < 64 {
        reader.refill();
        let entry = part.ac.fast[reader.peek(LOOKUP_BITS) as usize];
        reader.consume(entry & 0xFF);
        k += (entry >> 8 & 0xFF) as usize;
        let mut value = (entry >> 16) as i16;
        if k >= NO_COEFFICIENT as usize {
            if entry & 0xFF != 0 {
                break;
            }
            k -= NO_COEFFICIENT as usize;
            let (length, symbol) = part.ac.symbols.find(reader.peek(16));
            reader.consume(length);
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if run != 15 {
                    break;
                }
                k += 16;
                continue;
            }
            k += run;
            value = extend(reader.take(size), size) as i16;
        }
        block[usize::from(NATURAL_ORDER[k % 128]) % 64] = value;
        k += 1;
    }
}
