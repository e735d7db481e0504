//! Runs that can be held against each other: the same load, whatever was put under it.

use super::Source;
use super::format;
use super::subject::is_floor;
use crate::result::{Latency, Run, Spread, Verdict};

/// One load, and what was put under it.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) workload: &'a str,
    /// The load in words, without the workload.
    pub(crate) load: String,
    /// In the order of the reports, and of the runs in them.
    pub(crate) runs: Vec<Placed<'a>>,
}

/// A run and the report that it is from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed<'a> {
    /// Index of the report.
    pub(crate) source: usize,
    pub(crate) run: &'a Run,
}

/// Parameters that follow from the subject, not from the load.
fn is_the_subjects_own(workload: &str, key: &str) -> bool {
    matches!(key, "packet_bytes" | "datagram_bytes") || (workload == "bulk" && key == "message_bytes")
}

/// A load in words, all but what `skip` names.
fn load(run: &Run, skip: &[&str], with_pace: bool) -> String {
    let mut parts = Vec::new();
    for (key, value) in &run.parameters {
        if !is_the_subjects_own(&run.workload, key) && !skip.contains(&key.as_str()) {
            parts.push(format::parameter(key, value));
        }
    }
    // The size of a message comes first.
    parts.sort_by_key(|part| !part.ends_with('B'));
    if with_pace {
        parts.push(format::pace(run.pace));
    }
    parts.push(format::waiting(run.waiting).to_owned());
    parts.join(", ")
}

/// The runs of all reports by load, in the order of their first run.
pub(crate) fn scenes<'a>(sources: &[Source<'a>]) -> Vec<Scene<'a>> {
    gather(sources, |run| load(run, &[], true))
}

/// The runs that differ from each other in these parameters and, without the pace, in their rate.
pub(crate) fn series<'a>(sources: &[Source<'a>], skip: &[&str], with_pace: bool) -> Vec<Scene<'a>> {
    gather(sources, |run| load(run, skip, with_pace))
}

fn gather<'a>(sources: &[Source<'a>], load: impl Fn(&Run) -> String) -> Vec<Scene<'a>> {
    let mut scenes: Vec<Scene<'a>> = Vec::new();
    for (source, report) in sources.iter().map(|s| s.report).enumerate() {
        for run in &report.runs {
            let load = load(run);
            let placed = Placed { source, run };
            match scenes.iter_mut().find(|s| s.workload == run.workload && s.load == load) {
                Some(scene) => scene.runs.push(placed),
                None => scenes.push(Scene { workload: &run.workload, load, runs: vec![placed] }),
            }
        }
    }
    scenes
}

impl<'a> Scene<'a> {
    /// Workload and load.
    pub(crate) fn title(&self) -> String {
        format!("{}: {}", self.workload, self.load)
    }

    /// Runs of one report.
    pub(crate) fn of(&self, source: usize) -> impl Iterator<Item = &'a Run> + use<'a, '_> {
        self.runs.iter().filter(move |placed| placed.source == source).map(|placed| placed.run)
    }

    /// The run that others of the same report are held against, if it passed.
    pub(crate) fn floor(&self, source: usize) -> Option<&'a Run> {
        self.of(source).find(|run| is_floor(&run.subject) && passed(run))
    }

    /// Subjects, each once.
    pub(crate) fn subjects(&self) -> Vec<&'a str> {
        let mut subjects: Vec<&str> = Vec::new();
        for placed in &self.runs {
            if !subjects.contains(&placed.run.subject.as_str()) {
                subjects.push(&placed.run.subject);
            }
        }
        subjects
    }

    /// What was timed, each name once.
    pub(crate) fn timed(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.runs.iter().flat_map(|placed| placed.run.latencies.keys()) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }
}

/// Whether the figures of a run may be shown.
pub(crate) fn passed(run: &Run) -> bool {
    run.verdict == Verdict::Passed
}

/// The latency of a run that passed.
pub(crate) fn latency<'a>(run: &'a Run, timed: &str) -> Option<&'a Latency> {
    run.latencies.get(timed).filter(|_| passed(run))
}

/// A percentile of a run that passed, microseconds.
pub(crate) fn percentile(run: &Run, timed: &str, key: &str) -> Option<Spread> {
    latency(run, timed)?.percentiles_us.get(key).copied()
}

/// A figure of a run that passed.
pub(crate) fn figure(run: &Run, key: &str) -> Option<Spread> {
    run.figures.get(key).copied().filter(|_| passed(run))
}
