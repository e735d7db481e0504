//! Processor time and memory of a process, from `/proc`.

use serde::{Deserialize, Serialize};

/// What a process used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds in user mode.
    pub user_s: f64,
    /// Seconds in the kernel on its behalf.
    pub system_s: f64,
    /// Resident memory now.
    pub rss_bytes: u64,
    /// The most that it ever was.
    pub rss_bytes_max: u64,
}

impl Usage {
    /// Of the process `id`; none: there is no such process.
    pub fn of(id: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        Self::parse(&stat, &status, rustix::param::clock_ticks_per_second() as f64)
    }

    fn parse(stat: &str, status: &str, ticks_per_s: f64) -> Option<Self> {
        // The name of the program, in parentheses, may hold anything; user time is the 12th field behind it.
        let mut ticks = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let mut seconds = || Some(ticks.next()?.parse::<f64>().ok()? / ticks_per_s);
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1_024)
        };
        Some(Self {
            user_s: seconds()?,
            system_s: seconds()?,
            rss_bytes: bytes("VmRSS:")?,
            rss_bytes_max: bytes("VmHWM:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_shifts_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 3 0 1 2 3";
        let usage = Usage::parse(stat, "VmHWM:\t    20 kB\nVmRSS:\t    10 kB\n", 100.0).unwrap();
        let expected = Usage { user_s: 2.5, system_s: 0.5, rss_bytes: 10_240, rss_bytes_max: 20_480 };
        assert_eq!(usage, expected);
    }

    #[test]
    fn a_process_that_runs_is_not_found() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 0 && usage.rss_bytes_max >= usage.rss_bytes);
        assert_eq!(Usage::of(u32::MAX), None);
    }
}
