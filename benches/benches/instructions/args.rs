//! The arguments, which `cargo bench` gives to this program and to criterion alike.

use clap::{Arg, ArgAction, Command, ValueEnum};

/// Criterion's own flags, taken and ignored.
const CRITERION_FLAGS: [(&str, Option<char>); 11] = [
    ("bench", None),
    ("discard-baseline", None),
    ("exact", None),
    ("ignored", None),
    ("include-ignored", None),
    ("nocapture", None),
    ("noplot", Some('n')),
    ("quick", None),
    ("quiet", None),
    ("show-output", None),
    ("verbose", Some('v')),
];
/// Criterion's own options with a value.
const CRITERION_OPTIONS: [(&str, Option<char>); 15] = [
    ("baseline", Some('b')),
    ("baseline-lenient", None),
    ("color", Some('c')),
    ("confidence-level", None),
    ("format", None),
    ("load-baseline", None),
    ("measurement-time", None),
    ("noise-threshold", None),
    ("nresamples", None),
    ("output-format", None),
    ("profile-time", None),
    ("sample-size", None),
    ("save-baseline", Some('s')),
    ("significance-level", None),
    ("warm-up-time", None),
];

/// How the figures are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Output {
    /// A line for each workload.
    Text,
    /// One document, for machines.
    Json,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Count under callgrind.
    Count,
    /// Be the program that callgrind looks at.
    Child(String),
    /// Take one step of each: `cargo test` runs benchmarks in this way.
    Test,
    /// Print the names.
    List,
}

pub(crate) struct Args {
    pub(crate) mode: Mode,
    pub(crate) output: Output,
    filters: Vec<String>,
}

impl Args {
    pub(crate) fn parse() -> Self {
        let matches = command().get_matches();
        let child = matches.get_one::<String>(CHILD).cloned();
        let mode = match child {
            Some(name) => Mode::Child(name),
            None if matches.get_flag("list") => Mode::List,
            None if matches.get_flag("bench") && !matches.get_flag("test") => Mode::Count,
            None => Mode::Test,
        };
        Self {
            mode,
            output: matches.get_one("output").copied().unwrap_or(Output::Text),
            filters: matches.get_many("filter").unwrap_or_default().cloned().collect(),
        }
    }

    /// Whether the workload is asked for.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter))
    }
}

/// The option with which the program runs itself under callgrind.
pub(crate) const CHILD: &str = "child";

fn command() -> Command {
    let ignored =
        |(name, short): (&'static str, Option<char>)| Arg::new(name).long(name).short(short).hide(true);
    Command::new("instructions")
        .about("Counts the instructions that a step of each workload executes, by callgrind")
        .after_help("Example: cargo bench -p benches --bench instructions -- seal --output json")
        .arg(Arg::new("filter").action(ArgAction::Append).help("Count workloads with this in their name"))
        .arg(
            Arg::new("output")
                .long("output")
                .value_parser(clap::value_parser!(Output))
                .default_value("text")
                .help("How the figures are printed"),
        )
        .arg(Arg::new("list").long("list").action(ArgAction::SetTrue).help("Print the names only"))
        .arg(
            Arg::new("test").long("test").action(ArgAction::SetTrue).help("Take one step of each, uncounted"),
        )
        .arg(Arg::new(CHILD).long(CHILD).hide(true))
        .args(CRITERION_FLAGS.map(|flag| ignored(flag).action(ArgAction::SetTrue)))
        .args(CRITERION_OPTIONS.map(ignored))
}
