//! How a thread that helps the shards keeps out of their way.

use crate::executor::{allowed_cores, set_affinity};

/// Below the shards (0) and above idle (19): where there is no core to spare, a shard that never sleeps leaves such a
/// thread about a quarter of its core.
const NICE: libc::c_int = 5;

/// Moves the calling thread, and those that it starts from now on, off `data_cores` where the process may use others,
/// and lowers its priority: it no longer interrupts a shard when it wakes. Needs no privilege; what the system refuses
/// changes nothing.
pub fn step_aside(data_cores: &[usize]) {
    set_affinity(&other_cores(&allowed_cores(), data_cores));
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` is readable; 0 is the calling thread. On failure the policy stays.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    // SAFETY: numbers only; for Linux 0 is the calling thread, and others keep their priority.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// All allowed ones when every core has a shard.
fn other_cores(allowed: &[usize], data_cores: &[usize]) -> Vec<usize> {
    let others: Vec<_> = allowed.iter().copied().filter(|core| !data_cores.contains(core)).collect();
    if others.is_empty() { allowed.to_vec() } else { others }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_shares_a_core_with_a_shard_while_another_is_free() {
        assert_eq!(other_cores(&[0, 1, 2], &[0, 2]), [1]);
        assert_eq!(other_cores(&[0, 1], &[0, 1]), [0, 1]);
        let data_core = allowed_cores()[0];
        let helper = std::thread::spawn(move || {
            step_aside(&[data_core]);
            // SAFETY: numbers only; the calling thread.
            let policy = unsafe { libc::sched_getscheduler(0) };
            // SAFETY: the same.
            let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
            (crate::executor::current_cores(), policy, nice)
        });
        let (cores, policy, nice) = helper.join().expect("the helper");
        assert_eq!(cores, other_cores(&allowed_cores(), &[data_core]));
        assert_eq!(policy, libc::SCHED_BATCH);
        assert!(nice >= NICE, "{nice}");
    }
}
