//! Many random runs: clients type, block, reconnect, resume; at the end all must hold the same.

use super::*;

const KEYS: [u8; 4] = [1, 2, 3, 4];

/// A small generator (xorshift), so that a run is its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Where a client may resume: only when all the state that was announced to it has come.
fn resume_point(client: &ModelClient) -> Option<ResumePoint> {
    let joined = client.joins.last()?;
    let is_whole = joined.state_bytes == 0 || client.last_state_bytes == joined.state_bytes;
    let base = if joined.state_bytes > 0 { joined.state_sequence } else { 0 };
    let sequence = client.ops.last().map_or(base, |op| op.0.max(base));
    (is_whole && sequence > 0).then_some(ResumePoint { incarnation: INCARNATION, sequence })
}

fn step(rig: &mut Rig, dice: &mut Dice) {
    let key = KEYS[dice.roll(4) as usize];
    match dice.roll(20) {
        0 => rig.refuse(key),
        1..=2 => rig.writable(key),
        3 => rig.durable(),
        19 => rig.is_working = !rig.is_working,
        4 => rig.later(dice.roll(20_000)),
        5 => {
            rig.close(key);
            rig.refusing.remove(&u64::from(key));
            rig.reopen(key, key);
            let client = rig.client(key);
            let resume = if dice.roll(2) == 0 { resume_point(client) } else { None };
            let vector = if dice.roll(2) == 0 { client.vector() } else { Vec::new() };
            rig.join_with(key, "doc", resume, &vector);
        }
        _ => {
            let text = "abcdefghij".repeat(1 + dice.roll(12) as usize);
            rig.type_text(key, &text);
        }
    }
}

#[test]
fn clients_that_block_and_come_back_end_up_with_different_texts() {
    let (mut resyncs, mut resumes, mut blocked) = (0, 0, 0);
    for seed in 1..=60 {
        let mut config = SyncConfig::default();
        config.limits.tail_bytes_max = 3_000;
        config.limits.snapshot_tail_bytes = 3_000;
        let mut rig = Rig::with(DocumentKind::Yjs, config);
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ seed);
        for key in KEYS {
            rig.open(key, Access::Write);
            rig.join(key);
        }
        for _ in 0..400 {
            step(&mut rig, &mut dice);
        }
        rig.is_working = true;
        rig.durable();
        for key in KEYS {
            rig.writable(key);
        }
        let text = rig.text_of_a_newcomer();
        assert!(text.len() > 1_000);
        for key in KEYS {
            assert_eq!(rig.client(key).text(), text, "client {key}, seed {seed}");
            let counter = rig.client(key).counter;
            assert_eq!(rig.client(key).acked.last(), Some(&counter), "client {key}, seed {seed}");
            assert!(rig.client(key).rejects.is_empty());
        }
        let stats = rig.machine.stats();
        resyncs += stats.resyncs;
        resumes += stats.resumes;
        blocked += stats.blocked;
    }
    assert!(resyncs > 20 && resumes > 20 && blocked > 100, "{resyncs} {resumes} {blocked}: too tame a run");
}
