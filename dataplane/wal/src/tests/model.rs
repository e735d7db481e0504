//! Any sequence of appends, writes, syncs and crashes, against a plain list.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    Append(usize),
    Write,
    Sync,
    Crash(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (0_usize..200).prop_map(Event::Append),
        2 => (0_usize..30_000).prop_map(Event::Append),
        4 => Just(Event::Write),
        4 => Just(Event::Sync),
        1 => any::<u64>().prop_map(Event::Crash),
    ];
    prop::collection::vec(event, 1..200)
}

/// One bit for each unsynced sector.
fn keeps(seed: u64) -> impl FnMut(usize) -> bool {
    move |index| (seed ^ index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn an_acknowledged_op_is_lost_in_some_order_of_events(events in events()) {
        let mut log = Log::new();
        let mut appended: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut lsns: Vec<u64> = Vec::new();
        let mut in_flight = None;
        for event in events {
            match event {
                Event::Append(bytes) => {
                    if let Ok(lsn) = log.try_op(bytes) {
                        appended.push((log.sequence, payload(log.sequence, bytes)));
                        lsns.push(lsn);
                    }
                }
                Event::Write => in_flight = in_flight.or_else(|| log.write()),
                Event::Sync => {
                    if let Some(write) = in_flight.take() {
                        log.sync(write);
                    }
                }
                Event::Crash(seed) => {
                    in_flight = None;
                    let durable = lsns.iter().filter(|&&lsn| lsn <= log.writer.durable_lsn()).count();
                    log.disk.crash(keeps(seed));
                    let (recovered, ops) = read_back(&mut log.disk).expect("a crash leaves a sound log");
                    prop_assert!(ops.len() >= durable, "{} of {} durable ops", ops.len(), durable);
                    prop_assert_eq!(&ops[..], &appended[..ops.len()]);
                    appended.truncate(ops.len());
                    lsns.truncate(ops.len());
                    log = Log::at(log.disk, recovered.position, ops.len() as u64);
                }
            }
        }
    }

    #[test]
    fn arbitrary_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..9_000), piece in 1_usize..5_000) {
        let mut recovery = crate::Recovery::new(log_id());
        recovery.handle_segment_start(0).unwrap();
        let read = bytes.chunks(piece).try_for_each(|piece| recovery.handle_bytes(piece, |_| ()));
        let _ = read.and_then(|()| recovery.handle_segment_end(|_| ()));
    }

    #[test]
    fn the_size_of_the_pieces_matters(piece in 1_usize..9_000, sizes in prop::collection::vec(0_usize..6_000, 1..12)) {
        let mut log = Log::new();
        for &bytes in &sizes {
            if log.try_op(bytes).is_err() {
                break;
            }
        }
        log.flush();
        let (expected, ops) = read_back(&mut log.disk).unwrap();
        let mut recovery = crate::Recovery::new(log_id());
        let mut read = 0;
        for segment in crate::Storage::segments(&mut log.disk).unwrap() {
            recovery.handle_segment_start(segment).unwrap();
            let mut count = |record: &crate::Record<'_>| read += usize::from(matches!(record.body, Body::Op(_)));
            for piece in log.disk.segment_mut(segment).unwrap().chunks(piece) {
                recovery.handle_bytes(piece, &mut count).unwrap();
            }
            recovery.handle_segment_end(&mut count).unwrap();
        }
        prop_assert_eq!(read, ops.len());
        prop_assert_eq!(recovery.finish().unwrap(), expected);
    }
}
