//! What views and tiles refuse.

use mobileclip_kernels::{Chunks, Map, MapMut, MapRef, Tiles};

fn refused<T>(f: impl FnOnce() -> T) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err()
}

#[test]
fn a_map_longer_than_its_data_is_refused() {
    assert!(refused(|| MapRef::new(Map::new(17, 2, 2), &[0.0; 127])));
    assert!(refused(|| MapMut::new(Map::new(17, 2, 2), &mut [0.0; 127]).blocks()));
    // Lengths that would wrap around.
    let huge = Map { blocks: 1 << 40, height: 1 << 20, width: 1, border_y: 0, border_x: 0 };
    assert!(refused(|| MapRef::new(huge, &[])));
    let huge = Map { border_x: usize::MAX / 2 + 1, ..Map::new(1, 1, 1) };
    assert!(refused(|| MapRef::new(huge, &[0.0; 16])));
}

#[test]
fn parts_beyond_a_view_are_refused() {
    let map = Map::new(32, 2, 3);
    let data = vec![0.0; map.len()];
    let view = MapRef::new(map, &data).with_pixels(1..4).with_blocks(1..2);
    assert_eq!((view.blocks(), view.pixels()), (1, 3));
    assert!(refused(|| view.with_pixels(0..4)));
    assert!(refused(|| view.with_blocks(0..2)));
    assert!(refused(|| view.lanes(0, 3)));
    assert!(refused(|| view.lanes(1, 0)));
    assert!(refused(|| MapMut::new(map, &mut vec![0.0; map.len()]).split_at_block(3).0.blocks()));
    assert!(refused(|| MapMut::new(map, &mut vec![0.0; map.len()]).split_at_pixel(7).0.blocks()));
}

#[test]
fn a_tile_is_given_out_once() {
    let map = Map::new(48, 1, 4);
    let mut data = vec![0.0; map.len()];
    let tiles = Tiles::new(MapMut::new(map, &mut data), &[0, 2, 3], &[0, 1, 4]);
    assert_eq!(tiles.grid(), (2, 2));
    let tile = tiles.claim(0, 1);
    assert_eq!((tile.blocks(), tile.pixels()), (2, 3));
    assert!(refused(|| tiles.claim(0, 1)));
    assert!(refused(|| tiles.claim(2, 0)));
    let mut other = vec![0.0; map.len()];
    assert!(refused(|| Tiles::new(MapMut::new(map, &mut other), &[0, 4], &[0, 4])));
}

#[test]
fn a_chunk_is_given_out_once() {
    let mut data = [0.0; 10];
    let chunks = Chunks::new(&mut data, 4);
    chunks.claim(2).fill(2.0);
    assert_eq!(chunks.claim_range(0..2).len(), 8);
    for i in 0..4 {
        assert!(refused(|| chunks.claim(i)), "chunk {i}");
    }
    assert_eq!(data, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 2.0]);
}

#[test]
fn the_border_is_zeroed_and_nothing_else() {
    let map = Map::new(20, 2, 3).with_border(1, 2);
    let mut data = vec![1.0; map.len()];
    MapMut::new(map, &mut data).zero_border();
    assert_eq!(data.iter().filter(|v| **v == 1.0).count(), 2 * 2 * 3 * 16);
    assert_eq!(data[map.offset(1, 1, 2) + 15], 1.0);
    assert_eq!(data[map.offset(1, 1, 2) + 16], 0.0);
}
