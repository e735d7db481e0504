//! One executor per shard, on one core.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{OnceLock, mpsc};
use std::thread::JoinHandle;

use core_affinity::CoreId;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};

use crate::{Result, RtError};

/// The stack of a shard, bytes. Libraries that walk documents recurse as deep as somebody nested them; only what is
/// touched takes memory.
pub const STACK_BYTES: usize = 256 << 20;

/// The locked-memory limit under which glommio's rings do not start, bytes.
pub const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
/// Memory that an executor registers with each of its three rings, bytes: the least it takes, since log buffers
/// are our own.
const IO_MEMORY_BYTES: usize = 64 * 1024;
/// Entries of each of the executor's rings: the log has few operations in flight.
const RING_DEPTH: usize = 64;
/// How far a shard's timed sleep may overshoot, ns. The default of 50 us is half of a log write.
const TIMER_SLACK_NS: libc::c_ulong = 1_000;

const _: () = assert!(3 * (IO_MEMORY_BYTES as u64) < MEMLOCK_BYTES_MIN);

/// A shard's thread.
#[derive(Debug)]
pub struct ShardHandle<T> {
    name: String,
    thread: JoinHandle<std::thread::Result<T>>,
}

impl<T> ShardHandle<T> {
    /// The shard's thread name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the shard's task has ended, so that [`Self::join`] would not block.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the shard's task to end.
    ///
    /// # Errors
    /// [`RtError::ShardPanicked`] with the panic's message.
    pub fn join(self) -> Result<T> {
        let panicked = |payload: Box<dyn Any + Send>| RtError::ShardPanicked {
            name: self.name.clone(),
            message: panic_message(payload.as_ref()),
        };
        self.thread.join().and_then(|ended| ended).map_err(panicked)
    }
}

/// Runs `task` to its end on a thread of its own named `name`, in its own executor, pinned to `core`.
///
/// Returns once the executor stands. The executor's helper thread, for file operations that block, is not pinned.
///
/// # Errors
/// [`RtError::CoreNotAllowed`], [`RtError::Memlock`], [`RtError::IoUringDisabled`], [`RtError::Executor`].
pub fn spawn_shard<F, Fut>(core: Option<usize>, name: &str, task: F) -> Result<ShardHandle<Fut::Output>>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future + 'static,
    Fut::Output: Send + 'static,
{
    if let Some(core) = core {
        check_core(core)?;
    }
    let failed = |reason: String| RtError::Executor { name: name.to_owned(), reason };
    let (ready, started) = mpsc::sync_channel(1);
    let shard = name.to_owned();
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            catch_unwind(AssertUnwindSafe(|| {
                let executor = start(core, &shard).map_err(|error| drop(ready.send(Err(error)))).ok()?;
                // The spawner waits for this, unless it is gone; then the shard runs unwatched.
                let _ = ready.send(Ok(()));
                Some(executor.run(async move { task().await }))
            }))
            .and_then(|ended| ended.ok_or_else(|| Box::new("not started") as Box<dyn Any + Send>))
        })
        .map_err(|source| failed(source.to_string()))?;
    match started.recv() {
        Ok(Ok(())) => Ok(ShardHandle { name: name.to_owned(), thread }),
        Ok(Err(error)) => Err(error),
        Err(mpsc::RecvError) => Err(failed("its thread ended before the executor stood".to_owned())),
    }
}

/// Runs `task` on this thread in an executor like a shard's: for recovery tools and tests.
///
/// # Errors
/// As [`spawn_shard`].
pub fn run_local<T>(task: impl Future<Output = T>) -> Result<T> {
    Ok(start(None, "local")?.run(task))
}

/// Lets the shard's other tasks run.
///
/// The executor stays in its task loop: its own rings are looked at only when every task waits for something, or
/// at the preemption timer (100 ms). A loop that always yields must not depend on them, which is why the log is
/// written through the packet ring.
pub async fn yield_now() {
    glommio::executor().yield_now().await;
}

/// The cores that this process may run on: the affinity mask (so cpusets and `taskset` count) of the thread that
/// asks first, before anything is pinned.
#[must_use]
pub fn allowed_cores() -> Vec<usize> {
    static CORES: OnceLock<Vec<usize>> = OnceLock::new();
    CORES.get_or_init(current_cores).clone()
}

pub(crate) fn current_cores() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

/// Pins the calling thread to `core`.
///
/// # Errors
/// [`RtError::CoreNotAllowed`].
pub fn pin_current_thread(core: usize) -> Result<()> {
    check_core(core)?;
    if core_affinity::set_for_current(CoreId { id: core }) {
        Ok(())
    } else {
        Err(RtError::CoreNotAllowed { core, allowed: allowed_cores() })
    }
}

/// Lets the calling thread run on every allowed core: a thread starts with the mask of the shard that made it.
pub(crate) fn unpin_current_thread() {
    set_affinity(&allowed_cores());
}

/// Lets the calling thread, and those that it starts from now on, run on `cores` only.
pub(crate) fn set_affinity(cores: &[usize]) {
    // SAFETY: all-zero is an empty, valid set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for core in cores.iter().copied().filter(|core| *core < libc::CPU_SETSIZE as usize) {
        // SAFETY: the index is inside the set, checked above.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    // SAFETY: `set` is readable for its size; 0 is the calling thread. On failure it stays where it was, and slower.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
}

fn check_core(core: usize) -> Result<()> {
    let allowed = allowed_cores();
    if allowed.contains(&core) { Ok(()) } else { Err(RtError::CoreNotAllowed { core, allowed }) }
}

/// Stands the executor up, then pins: its helper thread keeps the whole mask.
fn start(core: Option<usize>, name: &str) -> Result<LocalExecutor> {
    check_memlock(memlock_limit())?;
    // glommio panics where there is no io_uring.
    crate::packets::probe()?;
    unpin_current_thread();
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .name(name)
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
        .map_err(|error| explain(name, error))?;
    if let Some(core) = core {
        pin_current_thread(core)?;
    }
    // SAFETY: PR_SET_TIMERSLACK takes a number and touches this thread's slack only; failure changes nothing.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, TIMER_SLACK_NS) };
    Ok(executor)
}

fn explain(name: &str, error: glommio::GlommioError<()>) -> RtError {
    let reason = error.to_string();
    match std::io::Error::from(error).raw_os_error() {
        Some(errno @ (libc::EPERM | libc::ENOSYS | libc::ENOMEM)) => {
            crate::packets::explain_setup(std::io::Error::from_raw_os_error(errno), RING_DEPTH as u32)
        }
        _ => RtError::Executor { name: name.to_owned(), reason },
    }
}

fn memlock_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a writable rlimit; on failure it stays zero, which reads as too little.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    limit.rlim_cur
}

fn check_memlock(limit: u64) -> Result<()> {
    if limit < MEMLOCK_BYTES_MIN {
        Err(RtError::Memlock { limit, needed: MEMLOCK_BYTES_MIN })
    } else {
        Ok(())
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_runs_on_the_core_it_was_given() {
        let core = *allowed_cores().last().expect("a core");
        let shard = spawn_shard(Some(core), "pinned", || async { current_cores() }).expect("shard");
        assert_eq!(shard.join().expect("shard's mask"), [core]);
    }

    #[test]
    fn a_core_outside_the_mask_is_refused_and_the_mask_is_named() {
        let error = spawn_shard(Some(4095), "nowhere", || async {}).expect_err("core 4095");
        assert!(error.to_string().contains("4095") && error.to_string().contains("allowed:"), "{error}");
        assert!(pin_current_thread(4095).is_err());
    }

    #[test]
    fn a_panicking_shard_is_an_error_with_its_message() {
        let shard = spawn_shard(None, "doomed", || async { assert_eq!(1, 2, "the reason") }).expect("shard");
        let error = shard.join().expect_err("a panic");
        assert!(error.to_string().contains("the reason") && error.to_string().contains("doomed"), "{error}");
    }

    #[test]
    fn too_little_locked_memory_is_named_with_its_remedy() {
        let error = check_memlock(64 * 1024).expect_err("64 KiB");
        assert!(
            error.to_string().contains("65536") && error.to_string().contains("ulimit -l 512"),
            "{error}"
        );
        assert!(check_memlock(MEMLOCK_BYTES_MIN).is_ok());
    }
}
