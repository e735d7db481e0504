//! The short form of the campaign.

use chaos::{Campaign, CampaignOptions, Program};

/// Enough that some come while the node starts, and that all readers are compared once before the end.
const KILLS: u64 = 22;

#[test]
fn a_kill_loses_an_acknowledged_op_or_leaves_a_reader_behind() {
    let program = Program::build().unwrap();
    let options = CampaignOptions { kills: KILLS, seed: 1, shards: 1, data_dir: None };
    let report = Campaign::new(program, options).run(|_, _| ()).unwrap();
    print!("{}", report.text());
    assert!(report.is_good(), "{}", report.text());
    assert_eq!(report.kills, KILLS + 1, "one more before the log is changed");
    assert!(report.kills_at_start > 0 && report.audits > 1 && report.visits > 100, "{report:?}");
    assert!(report.damages == 8 && report.damages_refused > 0, "{report:?}");
    assert!(report.recovered_ops_stored > 0 && report.snapshots > 0 && report.loads > 0, "{report:?}");
    assert!(report.unloads > 0, "{report:?}");
    assert!(report.ops_acknowledged > 1_000 && report.documents > 11, "{report:?}");
}
