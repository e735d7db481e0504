use super::*;

fn disk(faults: DiskFaults, seed: u64) -> Disk {
    let mut disk = Disk::new(DiskFaults { latency_us_max: 100, ..faults }, Random::new(seed));
    disk.prepare(0, 16 * BLOCK_BYTES as u64).unwrap();
    disk.prepare(1, 16 * BLOCK_BYTES as u64).unwrap();
    disk
}

fn write(disk: &mut Disk, block: usize, byte: u8) {
    let fate = disk.begin_write(0, (block * BLOCK_BYTES) as u64, &vec![byte; 2 * BLOCK_BYTES]);
    if fate.result.is_ok() {
        disk.sync(0).unwrap();
    }
}

#[test]
fn a_crash_takes_what_is_synced_or_never_tears() {
    let mut torn = 0;
    for seed in 0..200 {
        let mut disk = disk(DiskFaults::default(), seed);
        write(&mut disk, 0, 1);
        disk.begin_write(0, 2 * BLOCK_BYTES as u64, &vec![2; 4 * BLOCK_BYTES]);
        let report = disk.crash();
        assert_eq!(report.sectors, 4 * BLOCK_BYTES / SECTOR_BYTES);
        torn += usize::from(report.is_torn());
        let mut there = vec![0; 6 * BLOCK_BYTES];
        disk.read(0, 0, &mut there).unwrap();
        assert!(there[..2 * BLOCK_BYTES].iter().all(|&byte| byte == 1));
        let kept = there[2 * BLOCK_BYTES..].chunks(SECTOR_BYTES).filter(|sector| sector[0] == 2).count();
        assert_eq!(kept, report.kept);
        assert!(!disk.is_damaged(), "a torn write is no damage");
    }
    assert!((60..190).contains(&torn), "{torn} of 200");
}

#[test]
fn damage_is_not_noticed_or_cannot_be_undone() {
    let faults = [
        DiskFaults { misdirected: 100, ..DiskFaults::default() },
        DiskFaults { lost: 100, ..DiskFaults::default() },
        DiskFaults { rot: 100, ..DiskFaults::default() },
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let mut disk = disk(fault, number as u64);
        write(&mut disk, 0, 1);
        write(&mut disk, 2, 2);
        disk.rot();
        disk.crash();
        assert!(disk.is_damaged(), "{fault:?}");
        disk.restore();
        let mut there = vec![0; 5 * BLOCK_BYTES];
        disk.read(0, 0, &mut there).unwrap();
        let meant = |at: usize| [1, 2, 0][at / (2 * BLOCK_BYTES)];
        assert!(there.iter().enumerate().all(|(at, &byte)| byte == meant(at)), "{fault:?}");
    }
}

#[test]
fn the_last_write_is_lost_where_nobody_could_tell() {
    let mut disk = disk(DiskFaults { lost: 100, ..DiskFaults::default() }, 1);
    write(&mut disk, 0, 1);
    assert!(disk.is_damaged());
    disk.crash();
    assert!(!disk.is_damaged());
}

#[test]
fn a_good_copy_holds_what_a_crash_took() {
    for (number, fault) in [
        DiskFaults { lost: 100, ..DiskFaults::default() },
        DiskFaults { misdirected: 100, ..DiskFaults::default() },
    ]
    .into_iter()
    .enumerate()
    {
        for seed in 0..50 {
            let mut disk = disk(fault, 100 * number as u64 + seed);
            disk.begin_write(0, 0, &vec![1; 4 * BLOCK_BYTES]);
            disk.crash();
            disk.heal();
            let mut there = vec![0; 16 * BLOCK_BYTES];
            disk.read(0, 0, &mut there).unwrap();
            if there.contains(&1) {
                // It went there after all.
                continue;
            }
            // The log goes on in the place of what never was.
            write(&mut disk, 0, 2);
            disk.restore();
            disk.read(0, 0, &mut there).unwrap();
            assert!(!there.contains(&1), "{fault:?}, seed {seed}");
        }
    }
}

#[test]
fn the_last_write_went_into_a_segment_that_is_gone() {
    let mut lost = 0;
    for seed in 0..50 {
        let mut disk = disk(DiskFaults { misdirected: 100, ..DiskFaults::default() }, seed);
        write(&mut disk, 0, 1);
        let mut stray = vec![0; 16 * BLOCK_BYTES];
        disk.read(1, 0, &mut stray).unwrap();
        lost += usize::from(stray.contains(&1));
        disk.remove(1);
        disk.crash();
        if stray.contains(&1) {
            assert!(!disk.is_damaged(), "seed {seed}: nobody could tell");
        }
    }
    assert!(lost > 10, "{lost} of 50");
}
