//! What a command measures with, and where what it measured goes.
//!
//! Runs are given to [`Context::push`] as they end and written by [`Context::finish`] however the command ends, so
//! that a failure or Ctrl-C costs what was under way and nothing else. Places for files are tried before anything is
//! measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::args::{Common, Defaults, Output, Packets};
use crate::environment::{Environment, steal_seconds};
use crate::error::{Error, Result};
use crate::impair::RelayHandle;
use crate::report::{self, Source};
use crate::result::{Report, Run, SCHEMA, Target, Verdict};
use crate::verdict::{STALL_PART_MAX, STALL_US_MAX};

/// Where results go, unless told otherwise.
const RESULTS: &str = "perf-results";

/// Ctrl-C, once: finish, and keep what was measured. Twice: the process ends at once.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Begins to watch SIGINT and SIGTERM.
    ///
    /// # Errors
    /// The signals cannot be watched.
    pub fn watch() -> Result<Self> {
        let interrupt = Self::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // In this order, so that the first signal sets the flag that the second one finds.
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&interrupt.0))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&interrupt.0)))
                .map_err(|error| Error::doing("signals cannot be watched", error))?;
        }
        Ok(interrupt)
    }

    /// As Ctrl-C does, for this one alone.
    #[cfg(test)]
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is time to end.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The cores that the two sides are pinned to; the same where there is only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// Of the generator.
    pub client: usize,
    /// Of the server.
    pub server: usize,
}

impl Cores {
    /// Of the relay: one that is neither's; the server's, where there is none, since a generator that is held up
    /// measures itself.
    pub fn relay(&self) -> usize {
        let is_free = |core: &usize| ![self.client, self.server].contains(core);
        rt::allowed_cores().into_iter().find(is_free).unwrap_or(self.server)
    }

    /// Whether a relay has a core of its own.
    pub fn has_room_for_relay(&self) -> bool {
        self.relay() != self.server
    }

    /// What was asked for, else the last two that this process may use.
    ///
    /// # Errors
    /// A core that this process may not use.
    pub fn choose(client: Option<usize>, server: Option<usize>) -> Result<Self> {
        let mut allowed = rt::allowed_cores();
        allowed.sort_unstable();
        let Some(&last) = allowed.last() else {
            return Err(Error::Usage("this process may use no core at all".to_owned()));
        };
        let other = allowed.iter().rev().nth(1).copied().unwrap_or(last);
        for core in [client, server].into_iter().flatten() {
            if !allowed.contains(&core) {
                return Err(Error::Usage(format!("core {core} is not among those allowed: {allowed:?}")));
            }
        }
        let client = client.unwrap_or(if server == Some(last) { other } else { last });
        let server = server.unwrap_or(if client == other { last } else { other });
        Ok(Self { client, server })
    }
}

/// How long and how often to measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    /// Repeats wanted of each run.
    pub repeats: u32,
    /// Before the measured time.
    pub warmup: Duration,
    /// The measured time of each repeat.
    pub measured: Duration,
    /// The longest that the generator may be away, microseconds, where somebody said so.
    pub stall_us_max: Option<u64>,
    /// From then on nothing is done again, and what was not measured yet is measured once.
    pub again_until: Option<Instant>,
}

impl Effort {
    /// The longest that the generator may be away, microseconds.
    pub fn stall_limit_us(&self) -> u64 {
        let part_us = self.measured.as_secs_f64() * 1e6 * STALL_PART_MAX;
        self.stall_us_max.unwrap_or(STALL_US_MAX.max(part_us as u64))
    }
}

/// A command that is measuring.
pub struct Context {
    /// How long and how often.
    pub effort: Effort,
    /// Where the sides run.
    pub cores: Cores,
    /// Whether to stop.
    pub interrupt: Interrupt,
    /// Shown on standard error, where that is a terminal. Drawn between repeats only: a thread that draws would take
    /// a core from those that are measured.
    pub progress: ProgressBar,
    /// What the packets of transports hold.
    pub packets: Packets,
    /// What lies between the sides, if not loopback alone.
    pub network: Option<netem::PathSpec>,
    /// What others had taken of the cores when it began, seconds.
    steal_s: Option<f64>,
    /// Not to be printed as a table.
    json: bool,
    directory: PathBuf,
    html: Vec<PathBuf>,
    report: Report,
}

impl Context {
    /// Checks all arguments and makes sure that results can be written.
    ///
    /// # Errors
    /// The first argument that cannot be, with the remedy.
    pub fn new(command: &str, common: &Common, defaults: Defaults) -> Result<Self> {
        let cores = Cores::choose(common.client_core, common.server_core)?;
        let network = common.network.as_deref().map(RelayHandle::network).transpose()?;
        let started_unix_ms = rt::unix_ms();
        let directory = common.directory.clone().unwrap_or_else(|| {
            PathBuf::from(RESULTS).join(format!("{command}-{}", utc(started_unix_ms / 1_000)))
        });
        let besides = common.report.clone().or_else(|| defaults.report.map(PathBuf::from));
        if let Some(path) = &besides {
            writable_file(path, "--report")?;
        }
        writable_directory(&directory)?;
        let mut html = vec![directory.join("report.html")];
        html.extend(besides);
        let report = Report {
            schema: SCHEMA,
            command: std::env::args().collect::<Vec<_>>().join(" "),
            started_unix_ms,
            environment: Environment::collect(&cores),
            runs: Vec::new(),
            targets: Vec::new(),
        };
        let seconds = common.seconds.unwrap_or(defaults.seconds);
        let warmup = common.warmup_seconds.unwrap_or(defaults.warmup_seconds);
        Ok(Self {
            effort: Effort {
                repeats: common.repeats.unwrap_or(defaults.repeats),
                warmup: Duration::from_secs_f64(warmup),
                measured: Duration::from_secs_f64(seconds),
                stall_us_max: common.stall_us_max,
                again_until: None,
            },
            cores,
            interrupt: Interrupt::watch()?,
            progress: progress(),
            packets: Packets::default(),
            steal_s: steal_seconds(&[cores.client, cores.server]),
            network,
            json: common.output == Output::Json,
            directory,
            html,
            report,
        })
    }

    /// Keeps a run.
    pub fn push(&mut self, run: Run) {
        self.report.runs.push(run);
    }

    /// Keeps what was to be reached.
    pub fn push_target(&mut self, target: Target) {
        self.report.targets.push(target);
    }

    /// What was measured so far.
    pub fn runs(&self) -> &[Run] {
        &self.report.runs
    }

    /// Where files of the run may be put.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// [`Error::Interrupted`] after Ctrl-C.
    ///
    /// # Errors
    /// That one.
    pub fn check_interrupt(&self) -> Result<()> {
        if self.interrupt.is_set() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Prints and writes all that was measured, says what went wrong, and gives the status to end with.
    pub fn finish(mut self, outcome: Result<()>) -> ExitCode {
        self.progress.finish_and_clear();
        self.note_steal();
        let mut errors: Vec<Error> = outcome.err().into_iter().collect();
        let runs = self.report.runs.len();
        let failed = self.report.runs.iter().filter(|run| run.verdict != Verdict::Passed).count();
        if failed > 0 {
            errors.push(Error::RunsFailed { failed, runs });
        }
        if runs > 0 {
            let sources = [Source { name: &self.report.command, report: &self.report }];
            if self.json {
                println!("{}", serde_json::json!(self.report));
            } else {
                print!("{}", report::table(&sources));
            }
            errors.extend(self.write(&sources).err());
        } else {
            // Made to see whether it can be; nobody wants an empty one.
            let _ = fs::remove_dir(&self.directory);
            let _ =
                self.directory.parent().filter(|parent| *parent == Path::new(RESULTS)).map(fs::remove_dir);
        }
        say(&errors)
    }
}

impl Context {
    /// Keeps how much of the cores went to others while it measured.
    fn note_steal(&mut self) {
        let now = steal_seconds(&[self.cores.client, self.cores.server]);
        let Some(stolen_s) = now.zip(self.steal_s).map(|(now, before)| now - before) else { return };
        let seconds = rt::unix_ms().saturating_sub(self.report.started_unix_ms) as f64 / 1e3;
        let text = format!("{stolen_s:.2} s of {seconds:.0} s");
        self.report.environment.facts.insert("steal_during_run".to_owned(), text);
    }

    /// Writes the files of the run.
    fn write(&self, sources: &[Source<'_>]) -> Result<()> {
        report::json::write(&self.report, &self.directory.join("report.json"))?;
        report::hlog::write(&self.report, &self.directory)?;
        let page = report::html_page(sources);
        for path in &self.html {
            fs::write(path, &page).map_err(|error| {
                Error::doing(format!("{} cannot be written; name another place", path.display()), error)
            })?;
        }
        if !self.json {
            eprintln!("written to {}", self.directory.display());
        }
        Ok(())
    }
}

/// Says what went wrong, if anything did, and gives the status to end with.
pub fn say(errors: &[Error]) -> ExitCode {
    for error in errors {
        eprintln!("aether-perf: {error}");
    }
    errors.first().map_or(ExitCode::SUCCESS, |error| ExitCode::from(error.exit_status()))
}

fn progress() -> ProgressBar {
    let progress = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos}/{len} {msg}");
    match style {
        Ok(style) => progress.with_style(style),
        Err(error) => unreachable!("the template is a constant: {error}"),
    }
}

/// Makes the directory, unless it is there, and sees whether a file can be made in it.
fn writable_directory(directory: &Path) -> Result<()> {
    let failed = |source| Error::Output { path: directory.to_owned(), option: "--directory", source };
    fs::create_dir_all(directory).map_err(failed)?;
    let probe = directory.join(".probe");
    fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)).map_err(failed)
}

/// Sees whether a file can be written; one that was not there is not left behind.
fn writable_file(path: &Path, option: &'static str) -> Result<()> {
    let failed = |source| Error::Output { path: path.to_owned(), option, source };
    let was_there = path.exists();
    fs::OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
    if was_there { Ok(()) } else { fs::remove_file(path).map_err(failed) }
}

/// `20261123T041500Z`.
fn utc(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

/// Year, month and day of the Gregorian calendar, from days since 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_day_moves_the_date() {
        assert_eq!(utc(0), "19700101T000000Z");
        assert_eq!(utc(951_782_400), "20000229T000000Z");
        assert_eq!(utc(951_868_800), "20000301T000000Z");
        assert_eq!(utc(1_795_405_551), "20261123T034551Z");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_found_before_measuring() {
        let error = writable_directory(Path::new("/proc/nothing")).unwrap_err();
        assert!(error.to_string().contains("/proc/nothing"), "{error}");
        assert!(error.to_string().contains("--directory"), "{error}");
        assert!(writable_file(Path::new("/proc/report.html"), "--report").is_err());
    }

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        let error = Cores::choose(Some(100_000), None).unwrap_err();
        assert!(error.to_string().contains("100000"), "{error}");
    }

    #[test]
    fn the_two_sides_share_no_core_where_there_are_two() {
        let cores = Cores::choose(None, None).unwrap();
        let allowed = rt::allowed_cores().len();
        assert!(cores.client != cores.server || allowed == 1);
        let swapped = Cores::choose(Some(cores.server), None).unwrap();
        assert!(swapped.client != swapped.server || allowed == 1);
    }
}
