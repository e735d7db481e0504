//! How a thread that spins shares its core with the kernel's own workers.

/// The longest slice that the scheduler takes, nanoseconds.
const SLICE_NS: u64 = 100_000_000;

/// The first version of `struct sched_attr`, linux/sched/types.h; of a normal thread `runtime` is its slice.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

const _: () = assert!(size_of::<SchedAttr>() == 48);

/// Asks for the longest slice, so that whoever wakes with a shorter one has the core at once: the kernel's
/// workers, which end a log's writes, would otherwise wait for the next tick (4 ms) behind a thread that spins.
/// Takes nothing from the thread's share, needs no privilege; kernels before 6.12 ignore it. For a generator of
/// load beside a node; not for a shard, which would wake late where it shares its core.
pub fn give_way_to_short_tasks() {
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: 0,
        nice: 0,
        priority: 0,
        runtime: SLICE_NS,
        deadline: 0,
        period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of `attr`, which lives through the call; 0 is the calling thread.
    // A refusal leaves the thread as it was.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
}
