//! The generator's thread: one core, and a runtime that never sleeps while there is a load.

use std::future::Future;

use tokio::task::LocalSet;

use crate::error::{Error, Result};

/// Sockets are looked at after so many tasks, while all of them want to run.
const TASKS_PER_LOOK: u32 = 31;

/// Runs `work` to its end on a thread of its own, pinned to `core`.
///
/// A task that yields makes the runtime look at its sockets and come back at once, so that a generator that waits
/// for its next op by looking at the clock keeps everybody else awake as well.
///
/// # Errors
/// What `work` returns, or that there is no such thread.
pub fn on_generator<T, F>(core: Option<usize>, work: impl FnOnce() -> F + Send) -> Result<T>
where
    T: Send,
    F: Future<Output = Result<T>>,
{
    std::thread::scope(|scope| {
        let generator = std::thread::Builder::new().name("generator".to_owned()).spawn_scoped(scope, || {
            if let Some(core) = core {
                rt::pin_current_thread(core).map_err(|error| Error::doing("pinning the generator", error))?;
            }
            rt::give_way_to_short_tasks();
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().event_interval(TASKS_PER_LOOK).build();
            let runtime = runtime.map_err(|error| Error::doing("starting a tokio runtime", error))?;
            let outcome = LocalSet::new().block_on(&runtime, work());
            runtime.shutdown_background();
            outcome
        });
        let generator = generator.map_err(|error| Error::doing("starting the generator's thread", error))?;
        generator.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
