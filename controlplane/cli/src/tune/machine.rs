//! What is asked of a machine: files below a root, so that a made-up machine can be judged as well, and what only
//! system calls tell, of the real one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rt::{Features, Offloads, PacketRingConfig, RtError};

use crate::args::TuneArgs;

/// A machine, and what of it a node would use.
pub(super) struct Machine {
    root: PathBuf,
    /// The cores that shards run on.
    pub(super) cores: BTreeSet<usize>,
    /// The port that the node receives on.
    pub(super) port: u16,
    /// What a packet ring finds here; none of a made-up machine.
    pub(super) features: Option<Result<Features, RtError>>,
}

impl Machine {
    /// The one that the arguments name.
    pub(super) fn of(args: &TuneArgs) -> Self {
        let cores = if args.cores.is_empty() { rt::allowed_cores() } else { args.cores.clone() };
        let machine = Self::at(&args.root, cores, args.port);
        if !machine.is_this_one() {
            return machine;
        }
        // Asks for what is not used by default, too, to say whether it could be.
        let config = PacketRingConfig { busy_poll_us: 1, ..PacketRingConfig::default() };
        Self { features: Some(Features::probe(config)), ..machine }
    }

    /// One whose procfs and sysfs are below `root`.
    pub(super) fn at(root: &Path, cores: Vec<usize>, port: u16) -> Self {
        Self { root: root.to_owned(), cores: cores.into_iter().collect(), port, features: None }
    }

    fn is_this_one(&self) -> bool {
        self.root == Path::new("/")
    }

    /// A file's text without the space around it; none when it cannot be read.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok().map(|text| text.trim().to_owned())
    }

    /// A file that holds one value.
    pub(super) fn value<T: FromStr>(&self, path: &str) -> Option<T> {
        self.read(path)?.parse().ok()
    }

    /// The names in a directory, sorted.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.root.join(path)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// A file that holds a list of cores, such as `0-3,8`.
    pub(super) fn core_list(&self, path: &str) -> Option<BTreeSet<usize>> {
        parse_core_list(&self.read(path)?)
    }

    /// How many cores the machine has.
    pub(super) fn core_count(&self) -> Option<usize> {
        self.core_list("sys/devices/system/cpu/present").map(|cores| cores.len())
    }

    /// Network interfaces that are up and belong to a device.
    pub(super) fn interfaces(&self) -> Vec<String> {
        let is_device = |name: &String| {
            self.root.join(format!("sys/class/net/{name}/device")).exists()
                && self.read(&format!("sys/class/net/{name}/operstate")).is_none_or(|state| state != "down")
        };
        self.names("sys/class/net").into_iter().filter(is_device).collect()
    }

    /// What the driver of an interface says that it does; none of a made-up machine.
    pub(super) fn offloads(&self, interface: &str) -> Option<Offloads> {
        if self.is_this_one() { rt::offloads(interface).ok() } else { None }
    }
}

/// Such as `0-3,8`; empty, or `(null)` as the kernel writes for none: no core.
pub(super) fn parse_core_list(text: &str) -> Option<BTreeSet<usize>> {
    let mut cores = BTreeSet::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty() && *part != "(null)") {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
        cores.extend(from..=to.min(from + CORES_MAX));
    }
    Some(cores)
}

/// Cores in as a range at the most: a list of more is no list of cores.
const CORES_MAX: usize = 1 << 14;

/// Cores as the kernel writes them, without ranges.
pub(super) fn core_names(cores: &BTreeSet<usize>) -> String {
    let names: Vec<_> = cores.iter().map(ToString::to_string).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cores_is_misread() {
        let list = |text| parse_core_list(text).map(|cores| core_names(&cores));
        assert_eq!(list("0-2,5"), Some("0,1,2,5".to_owned()));
        assert_eq!(list(""), Some("none".to_owned()));
        assert_eq!(list("(null)"), Some("none".to_owned()));
        assert_eq!(list("x"), None);
    }
}
