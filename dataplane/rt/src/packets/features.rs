//! What this kernel, this device and these limits give a packet ring, and what it does without.

use std::borrow::Cow;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use wire::Ecn;

use super::busy_poll::{BusyPoll, device_can_be_polled};
use super::zero_copy::ZeroCopySend;
use super::{PacketRing, PacketRingConfig};
use crate::{Result, RtError};

/// Whether a feature is there, and used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FeatureStatus {
    /// It is used.
    InUse,
    /// It could be used; the reason says why it is not.
    Available,
    /// It is not there; the reason says why, and what is done instead.
    Absent,
}

impl FeatureStatus {
    /// Its name in metrics and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InUse => "in_use",
            Self::Available => "available",
            Self::Absent => "absent",
        }
    }
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Feature {
    /// Its name in metrics and reports.
    pub name: &'static str,
    /// Whether it is used.
    pub status: FeatureStatus,
    /// Why so; empty where there is nothing to say.
    pub reason: Cow<'static, str>,
}

/// All of them, as found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Features {
    list: Vec<Feature>,
}

impl Features {
    /// What a node would find here: makes a ring on loopback, asks, and drops it.
    ///
    /// # Errors
    /// [`RtError::IoUringDisabled`], [`RtError::RingMemory`], [`RtError::Ring`]: nothing works without a ring.
    pub fn probe(config: PacketRingConfig) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .map_err(|source| RtError::Socket { what: "bind", source })?;
        let mut ring = PacketRing::new(socket, config)?;
        // Some is known only once the kernel has been asked.
        ring.poll(|_, _| {})?;
        Ok(ring.features())
    }

    /// Whether nothing has been asked yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Each, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = &Feature> {
        self.list.iter()
    }

    /// One by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Feature> {
        self.list.iter().find(|feature| feature.name == name)
    }

    /// The names of those in a state, for a line in the log.
    #[must_use]
    pub fn names(&self, status: FeatureStatus) -> String {
        let of_status = self.list.iter().filter(|feature| feature.status == status);
        of_status.map(|feature| feature.name).collect::<Vec<_>>().join(" ")
    }

    /// The same with one of them gone: for who judges machines that are made up.
    #[must_use]
    pub fn without(mut self, name: &str, reason: &'static str) -> Self {
        for feature in self.list.iter_mut().filter(|feature| feature.name == name) {
            (feature.status, feature.reason) = (FeatureStatus::Absent, reason.into());
        }
        self
    }

    fn push(&mut self, name: &'static str, status: FeatureStatus, reason: impl Into<Cow<'static, str>>) {
        self.list.push(Feature { name, status, reason: reason.into() });
    }

    fn push_if(&mut self, name: &'static str, is_there: bool, why_not: &'static str) {
        if is_there {
            self.push(name, FeatureStatus::InUse, "");
        } else {
            self.push(name, FeatureStatus::Absent, why_not);
        }
    }
}

impl PacketRing {
    /// What it has and uses now: some of it shows only once packets have passed.
    #[must_use]
    pub fn features(&self) -> Features {
        let mut found = Features::default();
        found.push_if(
            "deferred_completions",
            self.deferred,
            "the kernel is older than 6.1: completions are posted at any system call",
        );
        found.push_if(
            "multishot_receive",
            self.receives_multishot,
            "the kernel has no multishot receive (Linux 6.0): it is asked for datagrams by system calls",
        );
        found.push_if(
            "receive_trains",
            self.receives_trains,
            "the kernel has no UDP_GRO: datagrams are received one by one",
        );
        found.push_if(
            "send_trains",
            self.sends_trains,
            "the kernel, the device or the path takes no UDP_SEGMENT: datagrams are sent one by one",
        );
        found.push_if(
            "send_batches",
            self.batch.is_allowed(),
            "the kernel, or a seccomp profile, has no sendmmsg: each datagram or train is a system call",
        );
        found.push_if(
            "ecn",
            self.send.ecn() == Ecn::Ect0,
            "the socket takes no IP_TOS: congestion shows as loss only",
        );
        let (asked, config) = (self.asked_buffers, self.config);
        if config.receive_buffers >= asked {
            found.push("full_buffers", FeatureStatus::InUse, "");
        } else {
            let text = format!(
                "{} of {asked} receive buffers: there was no locked memory for more (`ulimit -l`)",
                config.receive_buffers
            );
            found.push("full_buffers", FeatureStatus::Absent, text);
        }
        self.describe_zero_copy(&mut found);
        self.describe_busy_poll(&mut found);
        found
    }

    fn describe_zero_copy(&self, found: &mut Features) {
        let (status, reason) = match (self.zero_copy.mode(), self.zero_copy.is_supported()) {
            (_, false) => (
                FeatureStatus::Absent,
                "the kernel has no SENDMSG_ZC for this socket (Linux 6.1): trains are copied once more",
            ),
            (ZeroCopySend::Off, true) => (FeatureStatus::Available, "`zero_copy_send` is off"),
            (ZeroCopySend::On, true) => (FeatureStatus::InUse, ""),
            (ZeroCopySend::Auto, true) if self.zero_copy.is_proven() => (FeatureStatus::InUse, ""),
            (ZeroCopySend::Auto, true) if self.counters.zero_copy_copied > 0 => {
                (FeatureStatus::Available, "the device has the kernel copy anyway, as loopback does")
            }
            (ZeroCopySend::Auto, true) => (FeatureStatus::Available, "no train of 16 KiB has been sent yet"),
        };
        found.push("zero_copy_send", status, reason);
    }

    fn describe_busy_poll(&self, found: &mut Features) {
        let (status, reason): (_, Cow<'static, str>) = match &self.busy_poll {
            BusyPoll::Off => (FeatureStatus::Available, "`busy_poll_us` is 0".into()),
            BusyPoll::Refused(error) => (
                FeatureStatus::Absent,
                format!(
                    "the kernel refuses IORING_REGISTER_NAPI (Linux 6.9): {error}; interrupts wake the shard"
                )
                .into(),
            ),
            BusyPoll::On { us } if device_can_be_polled(self.socket.as_raw_fd()) => {
                (FeatureStatus::InUse, format!("{us} us of each sleep").into())
            }
            BusyPoll::On { .. } => (
                FeatureStatus::Available,
                "nothing has come yet by a device queue that can be polled; loopback has none".into(),
            ),
        };
        found.push("busy_poll", status, reason);
    }
}
