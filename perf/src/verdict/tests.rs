use super::*;

fn findings() -> Findings {
    let tally = Tally {
        asked_per_s: Some(1_000.0),
        achieved_per_s: 999.0,
        sent: 1_000,
        replies: 1_000,
        ..Tally::default()
    };
    Findings { tally, generator_stall_us: 50.0, ..Findings::default() }
}

fn failed(findings: &Findings) -> String {
    match judge(findings, STALL_US_MAX) {
        Judgement::Failed(reasons) => reasons.join("; "),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_clean_repeat_is_thrown_away() {
    assert_eq!(judge(&findings(), STALL_US_MAX), Judgement::Passed);
}

#[test]
fn a_missed_rate_is_reported() {
    let mut findings = findings();
    findings.tally.achieved_per_s = 980.0;
    let reasons = failed(&findings);
    assert!(reasons.contains("1000") && reasons.contains("980"), "{reasons}");
}

#[test]
fn a_lost_or_duplicated_or_damaged_reply_is_reported() {
    let mut lost = findings();
    lost.tally.lost = 1;
    assert!(failed(&lost).contains("1 of 1000 replies were lost"));
    let mut duplicated = findings();
    duplicated.tally.duplicated = 2;
    assert!(failed(&duplicated).contains("more than once"));
    let damaged = Findings { damaged: 3, ..findings() };
    assert!(failed(&damaged).contains("not what was sent"));
}

#[test]
fn a_stalled_generator_blames_the_server() {
    let mut findings = findings();
    findings.generator_stall_us = 4_000.0;
    findings.tally.lost = 5;
    assert!(matches!(judge(&findings, STALL_US_MAX), Judgement::Stalled(reasons) if reasons.len() == 2));
    assert!(matches!(judge(&findings, 5_000), Judgement::Failed(_)));
}

#[test]
fn a_held_up_server_alone_is_excused() {
    let mut findings = findings();
    findings.server_stall_us = 4_000.0;
    assert_eq!(judge(&findings, STALL_US_MAX), Judgement::Passed, "it is what tails show");
    findings.tally.lost = 5;
    assert!(matches!(judge(&findings, STALL_US_MAX), Judgement::Stalled(_)), "its socket overflowed");
    findings.reasons.push("memory grew".to_owned());
    assert!(matches!(judge(&findings, STALL_US_MAX), Judgement::Failed(_)));
}

#[test]
fn a_late_relay_or_a_stolen_core_is_taken_for_the_transport() {
    let late = Findings { held_up: vec!["the relay was late".to_owned()], ..findings() };
    assert!(matches!(judge(&late, STALL_US_MAX), Judgement::Stalled(reasons) if reasons.len() == 1));
    let stolen = |generator_steal_us| Findings { generator_steal_us, ..findings() };
    assert!(matches!(judge(&stolen(20_000.0), STALL_US_MAX), Judgement::Stalled(_)));
    assert_eq!(
        judge(&stolen(STEAL_TICK_US), STALL_US_MAX),
        Judgement::Passed,
        "one tick may be any part of it"
    );
}

#[test]
fn a_run_with_a_failed_repeat_gives_figures() {
    let reasons = ["a".to_owned(), "b".to_owned(), "a".to_owned()];
    let mut repeats = Repeats { passed: 3, stalled: 2, failed: 0 };
    assert_eq!(judge_run(repeats, &reasons), Verdict::Passed);
    repeats.failed = 1;
    let expected = Verdict::Failed { reasons: vec!["a".to_owned(), "b".to_owned()] };
    assert_eq!(judge_run(repeats, &reasons), expected);
    let none = Repeats { passed: 0, stalled: 9, failed: 0 };
    assert!(matches!(judge_run(none, &reasons), Verdict::Failed { .. }));
    assert!(matches!(judge_run(Repeats::default(), &[]), Verdict::Failed { reasons } if reasons.len() == 1));
}
