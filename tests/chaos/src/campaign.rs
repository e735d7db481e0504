//! One campaign: starts and kills, and between them the comparison of what is there with what must be.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aetherflow_client::{Client, DocumentKind};
use netem::Random;
use tempfile::TempDir;
use tokio::task::{AbortHandle, JoinSet, LocalSet};
use wire::Access;

use crate::content::Sizes;
use crate::damage::Damage;
use crate::error::ChaosError;
use crate::figures::{Figures, segments_removed};
use crate::ledger::{Account, Ledger};
use crate::node::{Node, NodeCommand, NotReady, Ready};
use crate::people::{self, Stage, Writer};
use crate::program::Program;
use crate::report::{Report, percentile_ms};
use crate::view::View;
use crate::visit::{Visit, Visitor};

/// Who writes, and who reads every document that is written in.
const WRITERS: u32 = 4;
const READERS: usize = 2;
/// The documents that are written in: so many of each kind, and how much they take before others follow them.
const DOCUMENTS: [(&str, DocumentKind, usize, Sizes, u32); 3] = [
    ("yjs", DocumentKind::Yjs, 6, Sizes { min: 10, max: 400 }, 3_000),
    ("opaque", DocumentKind::Opaque, 4, Sizes { min: 10, max: 400 }, 6_000),
    ("big", DocumentKind::Yjs, 1, Sizes { min: 4_000, max: 12_000 }, 800),
];
/// Documents of before that are visited after a start, besides those that are written in.
const VISITS_OF_OLD: u64 = 6;
/// So many kills lie between two comparisons of all readers.
const KILLS_PER_AUDIT: u64 = 20;
/// In the end, a bit of the log is changed so many times.
const DAMAGES: u64 = 8;
/// Everything is acknowledged, and everybody has it, so soon after the last op.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How often to look whether it is so.
const SETTLE_INTERVAL: Duration = Duration::from_millis(2);
/// Of 100 kills so many come before the node is ready, and so many shortly after, when nobody has looked at it yet.
const AT_START_PERCENT: u64 = 15;
const UNSEEN_PERCENT: u64 = 25;
/// The longest that a node lives, from its start, from when it is ready, and from when it was looked at.
const AT_START_US_MAX: u64 = 80_000;
const UNSEEN_US_MAX: u64 = 150_000;
const SEEN_US_MAX: u64 = 250_000;
/// A life that is asked what the node did lasts so much longer: what it says is two seconds old at the most.
const ASKED_AFTER: Duration = Duration::from_millis(2_200);

/// What to do.
#[derive(Clone, Debug)]
pub struct CampaignOptions {
    /// How often to kill the node.
    pub kills: u64,
    /// Decides what is written, where, and when the kills come.
    pub seed: u64,
    /// Shards of the node.
    pub shards: u16,
    /// Where its data is; none: in a temporary directory.
    pub data_dir: Option<PathBuf>,
}

/// A campaign of kills.
#[derive(Clone, Debug)]
pub struct Campaign {
    program: Program,
    options: CampaignOptions,
}

impl Campaign {
    /// One that kills `program`.
    #[must_use]
    pub fn new(program: Program, options: CampaignOptions) -> Self {
        Self { program, options }
    }

    /// Runs it, until something does not hold; `on_progress` hears of the kills and the acknowledged ops so far.
    ///
    /// # Errors
    /// The node's program cannot be run at all, or no client can be made. What does not hold is in the report.
    pub fn run(&self, on_progress: impl Fn(u64, u64)) -> Result<Report, ChaosError> {
        let (place, _removed_at_the_end) = self.place()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| ChaosError::Data { path: place.clone(), error })?;
        let command = NodeCommand::new(&self.program, &place, self.options.shards)?;
        LocalSet::new().block_on(&runtime, async {
            Run::begin(command, &self.options).await?.go(&self.options, on_progress).await
        })
    }

    fn place(&self) -> Result<(PathBuf, Option<TempDir>), ChaosError> {
        let failed = |path: PathBuf| move |error| ChaosError::Data { path, error };
        if let Some(path) = &self.options.data_dir {
            std::fs::create_dir_all(path).map_err(failed(path.clone()))?;
            return Ok((path.clone(), None));
        }
        // Beside the program: temporary files are often in memory, and nothing outlives a power cut there.
        let beside = self.program.0.parent().map(PathBuf::from).unwrap_or_default();
        let made = tempfile::Builder::new().prefix("chaos-").tempdir_in(&beside).map_err(failed(beside))?;
        Ok((made.path().to_owned(), Some(made)))
    }
}

/// A reader who stays: what it has, and the task that reads.
struct Reader {
    view: Rc<RefCell<View>>,
    task: AbortHandle,
}

struct Run {
    command: NodeCommand,
    node: Node,
    stage: Rc<Stage>,
    visitor: Rc<Visitor>,
    visits: JoinSet<Option<Visit>>,
    reader_clients: Vec<Client>,
    readers: Vec<Reader>,
    random: Random,
    report: Report,
    restarts: Vec<Duration>,
    killed_at: Option<Instant>,
    began: Instant,
}

impl Run {
    async fn begin(command: NodeCommand, options: &CampaignOptions) -> Result<Self, ChaosError> {
        let began = Instant::now();
        let mut node = command.start()?;
        let (ready, _) = node.ready(&command).await.map_err(|why| ChaosError::Program(why.to_string()))?;
        let ledger = Rc::new(Ledger::new());
        let stage = Rc::new(Stage {
            ledger: Rc::clone(&ledger),
            documents: RefCell::default(),
            is_paused: Cell::new(false),
        });
        let visitor = people::client(&ready.control, Access::Read).await?;
        let visitor = Rc::new(Visitor::new(visitor, ledger));
        let mut run = Self {
            command,
            node,
            stage,
            visitor,
            visits: JoinSet::new(),
            reader_clients: Vec::new(),
            readers: Vec::new(),
            random: Random::stream(options.seed, 0),
            report: Report { seed: options.seed, ..Report::default() },
            restarts: Vec::new(),
            killed_at: None,
            began,
        };
        for _ in 0..READERS {
            run.reader_clients.push(people::client(&ready.control, Access::Read).await?);
        }
        run.open_documents();
        for number in 1..=WRITERS {
            let client = people::client(&ready.control, Access::Write).await?;
            let writer = Writer::new(Rc::clone(&run.stage), client, number, options.seed);
            tokio::task::spawn_local(writer.write());
        }
        Ok(run)
    }

    /// Puts new documents where there are none, or full ones, and readers beside them.
    fn open_documents(&mut self) {
        let mut documents = self.stage.documents.borrow_mut();
        let mut place = 0;
        for (name, kind, count, sizes, ops_max) in DOCUMENTS {
            for _ in 0..count {
                if documents.get(place).is_none_or(|account| account.is_full()) {
                    let account = self.stage.ledger.open(name, kind, sizes, ops_max);
                    for client in &self.reader_clients {
                        let view = Rc::new(RefCell::new(View::new(Rc::clone(&account))));
                        let reading =
                            people::read_along(Rc::clone(&self.stage), client.clone(), Rc::clone(&view));
                        let task = tokio::task::spawn_local(reading).abort_handle();
                        self.readers.push(Reader { view, task });
                    }
                    match documents.get_mut(place) {
                        Some(full) => *full = account,
                        None => documents.push(account),
                    }
                }
                place += 1;
            }
        }
        let is_open = |account: &Account| documents.iter().any(|open| open.number == account.number);
        self.readers.retain(|reader| {
            let stays = is_open(&reader.view.borrow().account);
            if !stays {
                reader.task.abort();
            }
            stays
        });
    }

    async fn go(
        mut self,
        options: &CampaignOptions,
        on_progress: impl Fn(u64, u64),
    ) -> Result<Report, ChaosError> {
        while self.report.kills < options.kills && !self.has_failed() {
            self.live().await;
            if self.has_failed() {
                break;
            }
            self.kill_and_start().await?;
            on_progress(self.report.kills, self.stage.ledger.acknowledged());
        }
        if !self.has_failed() {
            self.come_up().await;
        }
        if !self.has_failed() {
            self.audit().await;
        }
        if !self.has_failed() {
            self.distrust().await?;
        }
        Ok(self.finish())
    }

    fn has_failed(&self) -> bool {
        self.stage.ledger.has_problems()
    }

    /// What a node lives through, from its start to just before its kill.
    async fn live(&mut self) {
        let draw = self.random.below(100);
        if draw < AT_START_PERCENT && self.report.kills > 0 {
            self.report.kills_at_start += 1;
            return self.wait(AT_START_US_MAX).await;
        }
        self.come_up().await;
        if self.has_failed() {
            return;
        }
        let is_audit_due = self.report.kills / KILLS_PER_AUDIT > self.report.audits;
        self.begin_visits();
        if is_audit_due {
            self.audit().await;
            self.ask().await;
        } else if draw < AT_START_PERCENT + UNSEEN_PERCENT {
            return self.wait(UNSEEN_US_MAX).await;
        } else {
            self.end_visits().await;
        }
        self.wait(SEEN_US_MAX).await;
    }

    async fn wait(&mut self, us_max: u64) {
        tokio::time::sleep(Duration::from_micros(self.random.below(us_max))).await;
    }

    /// Waits until the node is ready, if it has only been started.
    async fn come_up(&mut self) {
        if self.node.is_ready() {
            return;
        }
        match self.node.ready(&self.command).await {
            Ok((Ready { recovered_ops, recovered_ops_stored, .. }, after)) => {
                self.report.recovered_ops += recovered_ops;
                self.report.recovered_ops_stored += recovered_ops_stored;
                self.restarts.push(after);
                if let Some(killed) = self.killed_at.take() {
                    self.stage.ledger.serves_since(killed);
                }
            }
            Err(why) => self.stage.ledger.problem(why.to_string()),
        }
    }

    async fn kill_and_start(&mut self) -> Result<(), ChaosError> {
        if self.node.is_ready() && self.node.has_ended() {
            let words = self.command.last_words();
            self.stage.ledger.problem(format!("the node has ended by itself:\n{words}"));
            return Ok(());
        }
        self.killed_at.get_or_insert_with(Instant::now);
        self.node.kill(&self.command).await?;
        self.report.kills += 1;
        self.node = self.command.start()?;
        Ok(())
    }

    /// Somebody who comes anew looks at every document that is written in, and at some of before.
    fn begin_visits(&mut self) {
        let mut accounts = self.stage.documents.borrow().clone();
        let documents = self.stage.ledger.documents() as u64;
        for _ in 0..VISITS_OF_OLD {
            accounts.push(self.stage.ledger.account(self.random.below(documents) as usize));
        }
        for account in accounts {
            let visitor = Rc::clone(&self.visitor);
            self.visits.spawn_local(async move { visitor.visit(account).await });
        }
    }

    /// Waits for all of them; what they have seen.
    async fn end_visits(&mut self) -> Vec<View> {
        let mut views = Vec::new();
        while let Some(ended) = self.visits.join_next().await {
            match ended {
                Ok(Some(Visit { view, lost })) => {
                    self.report.visits += 1;
                    self.report.ops_lost += u64::from(lost);
                    views.push(view);
                }
                Ok(None) => {}
                Err(error) => self.stage.ledger.problem(format!("a visit: {error}")),
            }
        }
        views
    }

    /// Nobody writes any more: everything becomes acknowledged, and everybody sees the same. New documents take the place of
    /// full ones then.
    async fn audit(&mut self) {
        self.report.audits += 1;
        self.end_visits().await;
        self.stage.is_paused.set(true);
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while !self.is_settled() && Instant::now() < deadline && !self.has_failed() {
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
        if !self.is_settled() && !self.has_failed() {
            self.stage
                .ledger
                .problem(format!("not everything is acknowledged {SETTLE_TIMEOUT:?} after the last op"));
        }
        if self.has_failed() {
            return;
        }
        self.begin_visits();
        for view in self.end_visits().await {
            self.compare(&view, deadline).await;
        }
        self.open_documents();
        self.stage.is_paused.set(false);
    }

    /// Lets the node live on, and asks it what it has done.
    async fn ask(&mut self) {
        tokio::time::sleep(ASKED_AFTER).await;
        match Figures::ask(self.command.http()).await {
            Ok(Figures { loads, snapshots, unloads }) => {
                self.report.lives_asked += 1;
                self.report.loads += loads;
                self.report.snapshots += snapshots;
                self.report.unloads += unloads;
            }
            Err(error) => self.stage.ledger.problem(format!("the node's metrics: {error}")),
        }
    }

    /// Changes bits of the log, one at a time, while nobody writes.
    async fn distrust(&mut self) -> Result<(), ChaosError> {
        self.stage.is_paused.set(true);
        // What its start writes is the end of the log now: no op is in the last batch, where a change cannot be told from a
        // write that a kill left unfinished.
        self.kill_and_start().await?;
        for _ in 0..DAMAGES {
            self.come_up().await;
            if !self.has_failed() {
                self.start_over_damage().await?;
            }
        }
        self.come_up().await;
        if !self.has_failed() {
            self.audit().await;
        }
        Ok(())
    }

    /// Changes a bit of the log. Either the node refuses to start, and the bit is put right, or nothing is lost.
    async fn start_over_damage(&mut self) -> Result<(), ChaosError> {
        self.node.kill(&self.command).await?;
        let directory = self.command.data_dir.clone();
        let failed = |error| ChaosError::Data { path: directory.clone(), error };
        let damage = Damage::inflict(&directory, &mut self.random).map_err(failed)?;
        self.node = self.command.start()?;
        let Some(damage) = damage else { return Ok(()) };
        self.report.damages += 1;
        match self.node.ready(&self.command).await {
            Ok(_) => {
                self.begin_visits();
                self.end_visits().await;
                if self.has_failed() {
                    self.stage.ledger.problem(format!("that was after {} had changed", damage.in_words()));
                }
            }
            Err(NotReady::Ended(_)) => {
                self.report.damages_refused += 1;
                damage.undo().map_err(failed)?;
                self.node = self.command.start()?;
            }
            Err(why) => self.stage.ledger.problem(format!("{why}: {}", damage.in_words())),
        }
        Ok(())
    }

    fn is_settled(&self) -> bool {
        let ledger = &self.stage.ledger;
        ledger.applied() == ledger.acknowledged()
    }

    /// Compares who stays with who came anew.
    async fn compare(&mut self, fresh: &View, deadline: Instant) {
        let marks = fresh.account.acknowledged();
        for reader in &self.readers {
            let is_same = reader.view.borrow().account.number == fresh.account.number;
            if !is_same {
                continue;
            }
            while reader.view.borrow().lacks(&marks) > 0 && Instant::now() < deadline {
                tokio::time::sleep(SETTLE_INTERVAL).await;
            }
            let view = reader.view.borrow();
            let (lacks, id) = (view.lacks(&marks), &fresh.account.id);
            if lacks > 0 {
                self.report.readers_diverged += 1;
                self.stage.ledger.problem(format!("{id}: a reader has not got {lacks} ops"));
            } else if !view.equals(fresh) {
                self.report.readers_diverged += 1;
                self.stage.ledger.problem(format!("{id}: a reader sees something else than who comes anew"));
            }
        }
    }

    fn finish(mut self) -> Report {
        let ledger = &self.stage.ledger;
        let mut outages = ledger.outages();
        let mut report = self.report;
        report.documents = ledger.documents();
        report.ops_applied = ledger.applied();
        report.ops_acknowledged = ledger.acknowledged();
        report.restart_p50_ms = percentile_ms(&mut self.restarts, 0.5);
        report.restart_p99_ms = percentile_ms(&mut self.restarts, 0.99);
        report.outage_p50_ms = percentile_ms(&mut outages, 0.5);
        report.outage_p99_ms = percentile_ms(&mut outages, 0.99);
        report.segments_removed = segments_removed(&self.command.data_dir);
        report.disk_bytes = self.command.disk_bytes();
        report.elapsed_s = self.began.elapsed().as_secs_f64();
        report.problems = ledger.take_problems();
        report
    }
}
