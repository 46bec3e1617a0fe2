//! Element-wise functions, means and changes of layout.

mod support;

use mobileclip_kernels::{
    Activation, LANES, Map, MapMut, MapRef, add, add_assign, copy, gather_rows, mean, pack_planar, pack_rows,
    read_pixel, scale_channels, scale_channels_in_place, unpack_planar, unpack_rows, write_pixel,
};
use support::*;

#[test]
fn sums_copies_and_gates() {
    for (channels, height, width) in [(1, 1, 1), (16, 3, 5), (33, 4, 17), (40, 1, 77)] {
        let plain = Map::new(channels, height, width);
        let n = channels * plain.pixels();
        let mut numbers = Numbers::new(n as u64);
        let (a, b) = (numbers.vec(n), numbers.vec(n));
        let gate = numbers.vec(plain.blocks * LANES);
        let sum: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let gated: Vec<f32> =
            a.iter().enumerate().map(|(i, a)| (a * gate[i / plain.pixels()]).max(0.0)).collect();
        for (first, second, third) in [(0, 0, 0), (1, 3, 0), (0, 2, 1)] {
            let (map_a, map_b, to) = (
                plain.with_border(first, first),
                plain.with_border(0, second),
                plain.with_border(third, third),
            );
            let (data_a, data_b) = (blocked(map_a, channels, &a), blocked(map_b, channels, &b));
            let (view_a, view_b) = (MapRef::new(map_a, &data_a), MapRef::new(map_b, &data_b));
            each_isa(|isa| {
                let mut out = marked(to);
                add(isa, view_a, view_b, MapMut::new(to, &mut out));
                same_bits(&planar(to, channels, &out), &sum, "add");

                let mut out = marked(to);
                copy(isa, view_a, MapMut::new(to, &mut out));
                same_bits(&planar(to, channels, &out), &a, "copy");
                add_assign(isa, view_b, MapMut::new(to, &mut out));
                same_bits(&planar(to, channels, &out), &sum, "add_assign");

                let mut out = marked(to);
                scale_channels(isa, &gate, Activation::Relu, view_a, MapMut::new(to, &mut out));
                same_bits(&planar(to, channels, &out), &gated, "scale_channels");
                let mut out = marked(to);
                copy(isa, view_a, MapMut::new(to, &mut out));
                scale_channels_in_place(isa, &gate, Activation::Relu, MapMut::new(to, &mut out));
                same_bits(&planar(to, channels, &out), &gated, "scale_channels_in_place");
            });
        }
    }
}

#[test]
fn means_over_pixels() {
    for (height, width) in [(1, 1), (1, 5), (7, 7), (8, 8), (3, 33)] {
        let (channels, pixels) = (20, height * width);
        let x = Numbers::new(pixels as u64).vec(channels * pixels);
        let exact: Vec<f64> =
            x.chunks(pixels).map(|c| c.iter().map(|v| f64::from(*v)).sum::<f64>() / pixels as f64).collect();
        for border in [0, 2] {
            let map = Map::new(channels, height, width).with_border(border, border);
            let data = blocked(map, channels, &x);
            each_isa(|isa| {
                let mut out = vec![f32::NAN; map.blocks * LANES];
                mean(isa, MapRef::new(map, &data), &mut out);
                // A sum of so many numbers below 1, and a quotient.
                close(&out[..channels], &exact, |_| (pixels + 1) as f64 * U, isa.name());
            });
        }
    }
}

#[test]
fn layouts_there_and_back() {
    for channels in [1, 16, 21] {
        let map = Map::new(channels, 3, 4).with_border(1, 1);
        let x = Numbers::new(1).vec(channels * 12);
        let mut out = marked(map);
        pack_planar(&x, channels, MapMut::new(map, &mut out));
        same_bits(&planar(map, channels, &out), &x, "pack_planar");
        let mut back = vec![f32::NAN; x.len()];
        unpack_planar(MapRef::new(map, &out), channels, &mut back);
        same_bits(&back, &x, "unpack_planar");

        let mut out = marked(map);
        pack_rows(&x, channels, MapMut::new(map, &mut out));
        let transposed: Vec<f32> = (0..x.len()).map(|i| x[i % 12 * channels + i / 12]).collect();
        same_bits(&planar(map, channels, &out), &transposed, "pack_rows");
        unpack_rows(MapRef::new(map, &out), channels, &mut back);
        same_bits(&back, &x, "unpack_rows");

        let pixel = Numbers::new(2).vec(channels);
        write_pixel(&pixel, 7, MapMut::new(map, &mut out));
        let mut back = vec![f32::NAN; channels];
        read_pixel(MapRef::new(map, &out), 7, &mut back);
        same_bits(&back, &pixel, "write_pixel");
    }
}

#[test]
fn tokens_become_rows_of_the_table() {
    let (width, ids) = (20, [2, 0, 2]);
    let (table, positions) = (Numbers::new(1).vec(3 * width), Numbers::new(2).vec(4 * width));
    let map = Map::tokens(width, ids.len());
    for positions in [None, Some(&positions[..])] {
        let mut out = marked(map);
        gather_rows(&table, width, &ids, positions, MapMut::new(map, &mut out));
        let expected: Vec<f32> = (0..width * ids.len())
            .map(|i| (i / ids.len(), i % ids.len()))
            .map(|(c, t)| table[ids[t] as usize * width + c] + positions.map_or(0.0, |p| p[t * width + c]))
            .collect();
        same_bits(&planar(map, width, &out), &expected, "gather_rows");
    }
}
