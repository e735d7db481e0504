//! How many instructions a step of each workload executes. See the library's documentation.
//!
//! For each workload this program runs itself again under callgrind, which collects while one function is on
//! the stack: the one that takes a step.

mod args;
mod callgrind;
mod report;
mod valgrind;

use std::error::Error;
use std::hint::black_box;
use std::process::ExitCode;

use benches::{Stepper, Visitor, Workload, visit_all};

use crate::args::{Args, Mode, Output};
use crate::report::{History, Report};
use crate::valgrind::Valgrind;

/// Steps before those that are counted: queues have grown, symbols are bound.
const WARM_UP_STEPS: u64 = 64;
/// Steps that are counted: whole batches, so that the cost of a batch is shared fairly.
const COUNTED_STEPS: u64 = 256;
/// The same where each step takes a state of its own.
const COUNTED_STATES: u64 = 16;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.mode {
        Mode::Child(name) => {
            visit_all(&mut Child { wanted: name });
            Ok(())
        }
        Mode::Test => {
            visit_all(&mut Once);
            Ok(())
        }
        Mode::List => {
            names().iter().for_each(|name| println!("{name}: benchmark"));
            Ok(())
        }
        Mode::Count => count(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Counts all workloads that the arguments ask for, and prints as it goes.
fn count(args: &Args) -> Result<(), Box<dyn Error>> {
    let names: Vec<String> = names().into_iter().filter(|name| args.matches(name)).collect();
    if names.is_empty() && args.output == Output::Text {
        return Ok(());
    }
    let valgrind = match Valgrind::find_or_install() {
        Ok(valgrind) => valgrind,
        Err(missing) => return Ok(Report::skipped(args.output, missing)?),
    };
    let directory = callgrind::directory()?;
    let mut history = History::read(&directory);
    let mut report = Report::new(args.output, valgrind.version());
    for name in names {
        let counted = callgrind::count(&name, &directory)?;
        let last = history.replace(&name, counted.instructions_per_step());
        report.add(&name, &counted, last);
    }
    report.finish()?;
    history.write(&directory)?;
    Ok(())
}

/// The names of the workloads that are counted.
fn names() -> Vec<String> {
    struct Names(Vec<String>);
    impl Visitor for Names {
        fn visit<W: Workload>(&mut self, name: &str, _: impl Fn() -> W) {
            if W::IS_COUNTED {
                self.0.push(name.to_owned());
            }
        }
    }
    let mut names = Names(Vec::new());
    visit_all(&mut names);
    names.0
}

/// Runs one workload for callgrind and prints how many steps were counted.
struct Child<'a> {
    wanted: &'a str,
}

impl Visitor for Child<'_> {
    fn visit<W: Workload>(&mut self, name: &str, make: impl Fn() -> W) {
        if name != self.wanted {
            return;
        }
        let steps = if W::STEPS == 1 { COUNTED_STATES } else { COUNTED_STEPS };
        let mut stepper = Stepper::new(make);
        stepper.run(WARM_UP_STEPS.min(steps));
        stepper.run_with(steps, counted_step);
        println!("{steps}");
    }
}

/// What callgrind looks for: it collects from the entry of this function to its return.
#[inline(never)]
fn counted_step<W: Workload>(state: &mut W) {
    state.step();
    // The step is a call and not a jump that never returns here.
    black_box(state);
}

/// Takes one step of each workload, without callgrind.
struct Once;

impl Visitor for Once {
    fn visit<W: Workload>(&mut self, name: &str, make: impl Fn() -> W) {
        Stepper::new(make).run(1);
        println!("{name}: ok");
    }
}
