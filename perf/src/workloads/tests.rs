//! Repeats of several measurements, without servers.

use std::cell::RefCell;
use std::rc::Rc;

use clap::Parser;

use super::*;
use crate::args::{Common, Defaults};
use crate::error::Error;

/// What a repeat comes to.
#[derive(Clone, Copy)]
enum Outcome {
    Passes,
    Stalls,
    Fails,
    Breaks,
    IsInterrupted,
}
use Outcome::{Breaks, Fails, IsInterrupted, Passes, Stalls};

/// Comes to what is written, then passes for ever.
struct Scripted {
    name: &'static str,
    outcomes: &'static [Outcome],
    order: Rc<RefCell<String>>,
}

impl Measurement for Scripted {
    fn title(&self) -> Title {
        Title {
            workload: "rtt",
            subject: self.name.to_owned(),
            waiting: Waiting::Polling,
            pace: Pace::Closed,
            parameters: BTreeMap::new(),
        }
    }

    fn repeat(&mut self, context: &Context) -> Result<Repeat> {
        self.order.borrow_mut().push_str(self.name);
        let mut repeat = Repeat::default();
        repeat.figures.insert("figure".to_owned(), self.order.borrow().len() as f64);
        let (outcome, later) = self.outcomes.split_first().unwrap_or((&Passes, &[]));
        self.outcomes = later;
        match outcome {
            Passes => {}
            Stalls => repeat.findings.generator_stall_us = 1e9,
            Fails => repeat.findings.reasons.push("it failed".to_owned()),
            Breaks => return Err(Error::Usage("it broke".to_owned())),
            IsInterrupted => {
                context.interrupt.set();
                repeat.findings.tally.lost = 5;
            }
        }
        Ok(repeat)
    }
}

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    common: Common,
}

/// In which order they were measured, what came of each, and how it ended.
fn measure(repeats: u32, scripts: &[(&'static str, &'static [Outcome])]) -> (String, Vec<Run>, Result<()>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let line = CommandLine::parse_from(["rtt", "--directory", path.to_str().unwrap()]);
    let defaults = Defaults { repeats, seconds: 0.1, warmup_seconds: 0.0, report: None };
    let mut context = Context::new("rtt", &line.common, defaults).unwrap();
    let order = Rc::new(RefCell::new(String::new()));
    let scripted = |&(name, outcomes): &(&'static str, &'static [Outcome])| -> Box<dyn Measurement> {
        Box::new(Scripted { name, outcomes, order: Rc::clone(&order) })
    };
    let outcome = measure_all(&mut context, scripts.iter().map(scripted).collect());
    let order = order.borrow().clone();
    (order, context.runs().to_vec(), outcome)
}

#[test]
fn one_has_all_its_repeats_before_the_next_begins() {
    let (order, runs, outcome) = measure(3, &[("a", &[]), ("b", &[]), ("c", &[])]);
    assert_eq!(order, "abcabcabc");
    outcome.unwrap();
    let subjects: Vec<&str> = runs.iter().map(|run| run.subject.as_str()).collect();
    assert_eq!(subjects, ["a", "b", "c"]);
    assert_eq!(runs[1].figures["figure"], crate::result::Spread { median: 5.0, min: 2.0, max: 8.0 });
}

#[test]
fn a_stalled_repeat_is_counted_or_not_done_again() {
    let (order, runs, _) = measure(2, &[("a", &[Stalls]), ("b", &[])]);
    assert_eq!(order, "ababa");
    assert_eq!(runs[0].repeats, Repeats { passed: 2, stalled: 1, failed: 0 });
    assert_eq!(runs[0].verdict, Verdict::Passed);
    assert!((runs[0].figures["figure"].min - 3.0).abs() < 1e-9, "the stalled one counts");
}

#[test]
fn a_machine_that_always_stalls_is_tried_for_ever() {
    let (order, runs, _) = measure(1, &[("a", &[Stalls; 100])]);
    assert_eq!(order.len(), ATTEMPTS_PER_REPEAT_MAX as usize);
    assert!(matches!(&runs[0].verdict, Verdict::Failed { reasons } if reasons[0].contains("held up")));
    assert!(runs[0].figures.is_empty());
}

#[test]
fn one_that_fails_takes_the_others_with_it() {
    let (order, runs, outcome) = measure(2, &[("a", &[Breaks]), ("b", &[Fails]), ("c", &[])]);
    assert_eq!(order, "abcbc", "what broke is not tried again");
    outcome.unwrap();
    assert!(matches!(&runs[0].verdict, Verdict::Failed { reasons } if reasons[0] == "it broke"));
    assert!(matches!(&runs[1].verdict, Verdict::Failed { .. }), "one failed repeat of two is one too many");
    assert_eq!(runs[2].repeats.passed, 2);
}

#[test]
fn ctrl_c_costs_what_was_measured() {
    let (order, runs, outcome) = measure(3, &[("a", &[]), ("b", &[Passes, IsInterrupted]), ("c", &[])]);
    assert_eq!(order, "abcab");
    assert!(matches!(outcome, Err(Error::Interrupted)));
    assert_eq!(runs.len(), 3);
    assert_eq!([runs[0].repeats.passed, runs[1].repeats.passed, runs[2].repeats.passed], [2, 1, 1]);
    assert!(runs.iter().all(|run| run.verdict == Verdict::Passed), "what passed before is kept");
}
