//! A tokio runtime on the calling thread that waits in one of the two forms.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;
use tokio::task::{JoinSet, yield_now};

use crate::result::Waiting;
use crate::stall::StallMeter;

/// Handshakes of [`Driver::connect_all`] that are under way at a time.
const HANDSHAKES_AT_ONCE: usize = 64;

/// Drives the tasks of one client or one server.
pub(super) struct Driver {
    runtime: Runtime,
    waiting: Waiting,
    /// Where it sleeps. Tokio's own timers count whole milliseconds: far too coarse for a schedule of tens of
    /// thousands a second.
    alarm: Option<Alarm>,
}

impl Driver {
    pub(super) fn new(waiting: Waiting) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let alarm = {
            let _context = runtime.enter();
            (waiting == Waiting::Blocking).then(Alarm::new).transpose()?
        };
        Ok(Self { runtime, waiting, alarm })
    }

    /// One that never sleeps, for tasks that look at their sockets themselves at each turn: the operating system is
    /// not asked which are ready.
    pub(super) fn polling_without_io() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        Ok(Self { runtime, waiting: Waiting::Polling, alarm: None })
    }

    /// Runs until `future` ends; in the polling form the thread never sleeps meanwhile.
    pub(super) fn run<F: Future>(&self, future: F) -> F::Output {
        self.run_beside(future, || {})
    }

    /// The same for a server, whose turns are told to `stalls` where it never sleeps.
    pub(super) fn serve<F: Future>(&self, stalls: &StallMeter, future: F) -> F::Output {
        self.run_beside(future, || stalls.turn(Instant::now()))
    }

    /// Makes so many connections, several at a time; each is kept.
    pub(super) fn connect_all<C, F>(
        &self,
        count: usize,
        connections: &mut Vec<C>,
        connect: impl Fn() -> F,
    ) -> io::Result<()>
    where
        C: Send + 'static,
        F: Future<Output = io::Result<C>> + Send + 'static,
    {
        self.run(async {
            let mut handshakes = JoinSet::new();
            for begun in 0..count + HANDSHAKES_AT_ONCE {
                if begun >= HANDSHAKES_AT_ONCE
                    && let Some(made) = handshakes.join_next().await
                {
                    connections.push(made.map_err(io::Error::other)??);
                }
                if begun < count {
                    handshakes.spawn(connect());
                }
            }
            Ok(())
        })
    }

    fn run_beside<F: Future>(&self, future: F, each_turn: impl Fn()) -> F::Output {
        let mut future = pin!(future);
        let mut awake = pin!(async {
            loop {
                each_turn();
                // Lets every task run and looks at the sockets, without sleeping.
                yield_now().await;
            }
        });
        let polling = self.waiting == Waiting::Polling;
        self.runtime.block_on(poll_fn(|context| {
            let output = future.as_mut().poll(context);
            if polling && output.is_pending() {
                let _: Poll<()> = awake.as_mut().poll(context);
            }
            output
        }))
    }

    /// Lets the tasks run, then asks `poll` what came. With `wait_until` it goes on until `poll` is ready or that
    /// instant has passed; with none, one turn is made.
    pub(super) fn turn(
        &mut self,
        wait_until: Option<Instant>,
        poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> io::Result<()> {
        let Some(deadline) = wait_until else { return self.turn_once(poll).map(drop) };
        let Self { runtime, alarm: Some(alarm), .. } = self else {
            while !self.turn_once(poll)? && Instant::now() < deadline {}
            return Ok(());
        };
        alarm.set(deadline)?;
        runtime.block_on(poll_fn(|context| match poll(context) {
            Poll::Pending => alarm.poll(context),
            ready @ Poll::Ready(_) => ready,
        }))
    }

    /// Says whether `poll` was ready.
    fn turn_once(&self, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<io::Result<()>>) -> io::Result<bool> {
        self.runtime.block_on(async {
            let mut others = pin!(yield_now());
            poll_fn(|context| match poll(context) {
                Poll::Ready(result) => Poll::Ready(result.map(|()| true)),
                Poll::Pending => others.as_mut().poll(context).map(|()| Ok(false)),
            })
            .await
        })
    }
}

/// A timer of the kernel, exact to microseconds.
struct Alarm {
    timer: AsyncFd<OwnedFd>,
    deadline: Option<Instant>,
}

impl Alarm {
    fn new() -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for descriptors that others could close: ours is owned"
        )]
        let timer = AsyncFd::new(timer)?;
        Ok(Self { timer, deadline: None })
    }

    fn set(&mut self, deadline: Instant) -> io::Result<()> {
        if self.deadline == Some(deadline) {
            return Ok(());
        }
        // A timer set to nothing is disarmed, so what is due already still waits one nanosecond.
        let left = deadline.saturating_duration_since(Instant::now()).max(std::time::Duration::from_nanos(1));
        let value = Timespec::try_from(left).map_err(io::Error::other)?;
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(
            self.timer.get_ref(),
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: never, it_value: value },
        )?;
        self.deadline = Some(deadline);
        Ok(())
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.timer.poll_read_ready(context))?;
            let mut expirations = [0; 8];
            let read = guard.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expirations)?));
            if let Ok(read) = read {
                read?;
                self.deadline = None;
                return Poll::Ready(Ok(()));
            }
        }
    }
}
