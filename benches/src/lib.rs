//! Micro-benchmarks of the hot paths: how long a step takes, and how many instructions.
//!
//! A [`Workload`] is a state and a step that is measured. Two programs run all of them: `time` asks criterion
//! how long a step takes; `instructions` asks callgrind how many instructions it executes, which a noisy
//! machine does not change.
//!
//! ```text
//! cargo bench -p benches                                    all, in a few minutes
//! cargo bench -p benches -- --quick                         all, roughly
//! cargo bench -p benches -- seal                            those with `seal` in their name, by both programs
//! cargo bench -p benches --bench time -- --save-baseline before      remember ...
//! cargo bench -p benches --bench time -- --baseline before           ... and compare
//! cargo bench -p benches --bench instructions -- --output json
//! ```
//!
//! How to read it: criterion prints the lower bound, the estimate and the upper bound of the time of one step
//! at 95 % confidence, and below it the change since the run before. Both programs compare with the run
//! before them by themselves and keep what they found under the target directory. Believe a change of time
//! only on a machine that does nothing else. Instructions are exact to a few in a thousand; their change is
//! real, but what it costs in time is not told: a cache miss counts as much as an addition. Under valgrind
//! the CPU has no AVX-512, so the ciphers and checksums take other paths than they take in production.
//! `callgrind_annotate` shows where the instructions of one workload go: each leaves its profile in
//! `target/instructions/`.
//!
//! Instructions need valgrind. It is installed where this runs as root and there is apt; where it cannot be
//! had, that part says SKIPPED and how to get it, and passes. The counter is our own and not a framework,
//! because the frameworks need a second program of the very same version, installed by hand.

mod ack;
mod congestion;
mod document;
mod entrance;
mod fec;
mod header;
mod join;
mod log;
mod machine;
mod message;
mod op;
mod packet;
mod pair;
pub mod ring;
mod seal;
mod sync;
mod workload;

pub use workload::{Stepper, Visitor, Workload};

/// Shows all workloads to `visitor`, from the packet inwards.
pub fn visit_all(visitor: &mut impl Visitor) {
    header::visit(visitor);
    seal::visit(visitor);
    entrance::visit(visitor);
    ack::visit(visitor);
    congestion::visit(visitor);
    fec::visit(visitor);
    packet::visit(visitor);
    message::visit(visitor);
    ring::visit(visitor);
    op::visit(visitor);
    log::visit(visitor);
    sync::visit(visitor);
    join::visit(visitor);
}
