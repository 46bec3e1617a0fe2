use crate::Error;
use crate::bits::BitReader;
use crate::entropy::EntropyData;
use crate::frame::{Block, Frame, NATURAL_ORDER, Scan};
use crate::huffman::{AcTable, Code, DcTable, LOOKUP_BITS, extend};
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
    dc: DcTable,
    ac: AcTable,
    /// Blocks of this component in an MCU, across and down.
    across: usize,
    down: usize,
    prediction: i32,
}

impl SequentialScan {
    pub fn new(frame: &Frame, scan: &Scan, tables: &Tables) -> Result<Self, Error> {
        let is_interleaved = scan.components.len() > 1;
        let mut components = Vec::with_capacity(scan.components.len());
        for selected in &scan.components {
            let component = &frame.components[selected.index];
            let dc = code(&tables.dc, selected.dc_table)?;
            let ac = code(&tables.ac, selected.ac_table)?;
            components.push(Part {
                index: selected.index,
                dc: DcTable::new(dc)?,
                ac: AcTable::new(ac)?,
                across: if is_interleaved { component.h } else { 1 },
                down: if is_interleaved { component.v } else { 1 },
                prediction: 0,
            });
        }
        let (mcus_per_row, mcu_rows) = match &scan.components[..] {
            [one] => (frame.components[one.index].block_columns, frame.components[one.index].block_rows),
            _ => (frame.mcus_per_row, frame.mcu_rows),
        };
        Ok(Self { components, mcus_per_row, mcu_rows })
    }

    /// Decodes the `mcus` of an MCU row into `coefs`, each component's blocks with `stride` MCUs in a row, the first
    /// one at MCU column `column` and row `row`.
    ///
    /// `IS_FRESH`: all blocks are set to zero first. Else coefficients are stored where they are not 0.
    pub fn decode<const IS_FRESH: bool>(
        &mut self,
        entropy: &mut EntropyData,
        coefs: &mut [Vec<Block>],
        stride: usize,
        (row, column): (usize, usize),
        mcus: usize,
    ) -> Result<(), Error> {
        let mut mcu = 0;
        while mcu < mcus {
            let run = entropy.begin(mcus - mcu)?;
            if run.is_restart {
                self.components.iter_mut().for_each(|part| part.prediction = 0);
            }
            let end = mcu + run.mcus;
            if !run.is_empty {
                let (mut reader, length) = entropy.reader();
                let mut is_past = false;
                while mcu < end && !is_past {
                    for part in &mut self.components {
                        let plane = &mut coefs[part.index];
                        for y in 0..part.down {
                            let start = (row * part.down + y) * stride * part.across;
                            let start = start + (column + mcu) * part.across;
                            for block in &mut plane[start..start + part.across] {
                                if IS_FRESH {
                                    *block = [0; 64];
                                }
                                decode_block(&mut reader, part, block);
                            }
                        }
                    }
                    is_past = reader.is_past(length);
                    mcu += 1;
                }
                let at = reader.position();
                entropy.end(at, is_past)?;
            }
            if IS_FRESH && mcu < end {
                for part in &self.components {
                    for y in 0..part.down {
                        let start = (row * part.down + y) * stride + column;
                        let blocks = (start + mcu) * part.across..(start + end) * part.across;
                        coefs[part.index][blocks].fill([0; 64]);
                    }
                }
            }
            mcu = end;
        }
        Ok(())
    }
}

fn code(codes: &[Option<Code>; 4], index: u8) -> Result<&Code, Error> {
    let code = codes.get(usize::from(index)).and_then(Option::as_ref);
    code.ok_or(Error::Malformed { segment: "SOS", reason: "no Huffman table" })
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

    let fast = &*part.ac.fast;
    let mut k = 1;
    'refill: while k < 64 {
        reader.refill();
        // The buffer holds enough bits for four steps of the table.
        for _ in 0..4 {
            let entry = fast[reader.peek(LOOKUP_BITS) as usize];
            let place = k + (entry >> 4 & 15) as usize;
            let value = (entry >> 16) as i8;
            // In the block's last place the second value would belong to the next block.
            if value == 0 || place >= 63 {
                if value == 0 && entry & 15 != 0 {
                    reader.consume(entry & 15);
                    return;
                }
                k = decode_long(reader, &part.ac, block, k);
                continue 'refill;
            }
            reader.consume(entry & 15);
            k = place + (entry >> 8 & 0x7F) as usize;
            block[usize::from(NATURAL_ORDER[place % 64]) % 64] = value.into();
            block[usize::from(NATURAL_ORDER[(k - 1) % 256]) % 64] = ((entry as i32) >> 24) as i16;
            if k >= 64 {
                return;
            }
        }
    }
}

/// Decodes one symbol without the table of whole values; returns the next place, 64 or more at the block's end.
#[inline(always)]
fn decode_long(reader: &mut BitReader, table: &AcTable, block: &mut Block, k: usize) -> usize {
    reader.refill();
    let (length, symbol) = table.symbols.find(reader.peek(16));
    reader.consume(length);
    let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
    match (run, size) {
        (15, 0) => return k + 16,
        (_, 0) => return 64,
        _ => {}
    }
    let place = k + run;
    block[usize::from(NATURAL_ORDER[place % 256]) % 64] = extend(reader.take(size), size) as i16;
    place + 1
}
