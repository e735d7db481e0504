//! The agent: the one thread of a node that speaks gRPC. It reports to the control plane and hands the
//! shards what the control plane says, as values over bounded rings. No edit passes through it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use proto::v1::node_command::Command as Said;
use proto::v1::node_report::Report as Told;
use proto::v1::node_service_client::NodeServiceClient;
use proto::v1::{ConfigApplied, NodeCommand, NodeHello, NodeReport, NodeStatus};
use rings::spsc::{Consumer, Producer};
use rt::{Doorbell, FeatureStatus, Features};
use shard::{Command, Report};
use statesync::Placement;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tonic::Streaming;
use tracing::{error, info, warn};

use crate::admin::{HoldRequest, LogEnd};
use crate::convert;
use crate::shard_loop::LoopReport;
use crate::state::{NodeState, ShardState};

/// How often the node's figures go to the control plane.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Reports under way to the control plane.
const REPORTS_MAX: usize = 64;
const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(20);
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(2);
/// How soon a full ring is tried again.
const RING_RETRY: Duration = Duration::from_millis(1);

/// The agent's ends of the rings to and from one shard.
pub(crate) struct ShardLink {
    pub(crate) commands: Producer<Command>,
    pub(crate) reports: Consumer<LoopReport>,
    pub(crate) doorbell: Doorbell,
}

/// All that the agent works with.
pub(crate) struct Agent {
    pub(crate) control: String,
    /// Shown to the control plane; empty: none.
    pub(crate) api_key: String,
    pub(crate) hello: NodeHello,
    pub(crate) links: Vec<ShardLink>,
    /// Signalled by a shard that has put something in its ring.
    pub(crate) reported: Arc<Notify>,
    pub(crate) state: watch::Sender<NodeState>,
    /// Becomes true when the node shall drain.
    pub(crate) drain: watch::Receiver<bool>,
    /// Whether every shard has been told so.
    pub(crate) drain_told: bool,
    /// Requests of the admin service.
    pub(crate) holds: mpsc::Receiver<HoldRequest>,
    /// Who waits for each shard's answer, the first first.
    pub(crate) holding: Vec<VecDeque<oneshot::Sender<LogEnd>>>,
}

impl Agent {
    /// Runs until every shard has drained.
    pub(crate) async fn run(mut self) {
        let mut delay = RECONNECT_DELAY_MIN;
        loop {
            let attaching = attach(self.control.clone(), self.api_key.clone(), self.hello.clone());
            // Reports and a drain are heeded all the while.
            let attached = tokio::select! {
                attached = attaching => attached,
                true = self.serve(None, None) => return,
            };
            match attached {
                Ok((outgoing, incoming)) => {
                    info!(control = self.control, node = self.hello.node_id, "attached to the control plane");
                    delay = RECONNECT_DELAY_MIN;
                    if self.serve(Some(outgoing), Some(incoming)).await {
                        return;
                    }
                    warn!(control = self.control, "the control plane is gone; the shards serve on");
                }
                Err(error) => {
                    self.state.send_modify(|state| state.last_error = error.to_string());
                    warn!(control = self.control, %error, "the control plane cannot be reached");
                }
            }
            let waited = tokio::time::timeout(delay, self.serve(None, None)).await;
            if waited == Ok(true) {
                return;
            }
            delay = (delay * 2).min(RECONNECT_DELAY_MAX);
        }
    }

    /// Passes commands down and reports up; true when all shards have drained, false when the stream ended.
    async fn serve(
        &mut self,
        outgoing: Option<mpsc::Sender<NodeReport>>,
        mut incoming: Option<Streaming<NodeCommand>>,
    ) -> bool {
        let mut status = tokio::time::interval(STATUS_INTERVAL);
        status.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let reported = self.reported.clone();
            tokio::select! {
                () = reported.notified() => {
                    if self.take_reports(outgoing.as_ref()) {
                        return true;
                    }
                }
                said = next(&mut incoming) => match said {
                    Ok(Some(NodeCommand { command: Some(command) })) => self.pass_on(command).await,
                    Ok(Some(NodeCommand { command: None })) => {}
                    Ok(None) => return false,
                    Err(error) => {
                        self.state.send_modify(|state| state.last_error = error.to_string());
                        return false;
                    }
                },
                Some(HoldRequest { shard, is_held, reply }) = self.holds.recv() => {
                    self.holding[shard].push_back(reply);
                    push(&mut self.links[shard], Command::HoldLog(is_held)).await;
                }
                _ = status.tick() => self.tell_status(outgoing.as_ref()),
                true = drain_asked(&mut self.drain), if !self.drain_told => {
                    // Told again should this be cancelled midway: a shard heeds the first.
                    self.broadcast(&Command::Drain).await;
                    self.drain_told = true;
                }
            }
        }
    }

    async fn pass_on(&mut self, said: Said) {
        let command = match said {
            Said::TicketKeys(keys) => convert::ticket_keys(&keys),
            Said::Map(map) => {
                let owners = match convert::owners(&map, &self.hello.node_id) {
                    Ok(owners) => owners,
                    Err(reason) => return warn!(reason, revision = map.revision, "map refused"),
                };
                for (shard, link) in self.links.iter_mut().enumerate() {
                    let placement = Placement::new(shard as u32, owners.clone());
                    push(link, Command::Placement(placement)).await;
                }
                return;
            }
            Said::Settings(settings) => convert::settings(&settings),
            Said::SessionRevoked(revoked) => convert::revoked(&revoked),
        };
        match command {
            Ok(command) => self.broadcast(&command).await,
            Err(reason) => warn!(reason, "command of the control plane refused"),
        }
    }

    async fn broadcast(&mut self, command: &Command) {
        for link in &mut self.links {
            push(link, command.clone()).await;
        }
    }

    /// True when the last shard has drained.
    fn take_reports(&mut self, outgoing: Option<&mpsc::Sender<NodeReport>>) -> bool {
        let mut applied = None;
        for (shard, link) in self.links.iter_mut().enumerate() {
            while let Some(report) = link.reports.pop() {
                if let LoopReport::Shard(Report::LogHeld { segment, bytes }) = report
                    && let Some(reply) = self.holding[shard].pop_front()
                {
                    // Who asked may have given up.
                    let _ = reply.send((segment, bytes));
                }
                if let LoopReport::Shard(Report::SettingsApplied(version)) = report {
                    applied = Some(version);
                }
                self.state.send_modify(|state| {
                    let state = &mut state.shards[shard];
                    match report {
                        LoopReport::Shard(report) => note(state, shard, &report),
                        LoopReport::Status(snapshot) => {
                            if state.last.features.is_empty() {
                                log_features(shard, &snapshot.features);
                            }
                            state.last = *snapshot;
                        }
                        LoopReport::Stall(stall) => stall.log(shard),
                        LoopReport::Store(failure) => note_store(state, shard, failure),
                    }
                });
            }
        }
        if let (Some(version), Some(outgoing)) = (applied, outgoing) {
            let applied = ConfigApplied { version, error: String::new() };
            // Told again with the next settings should the stream be full.
            let _ = outgoing.try_send(NodeReport { report: Some(Told::ConfigApplied(applied)) });
        }
        self.state.borrow().shards.iter().all(|shard| shard.drained)
    }

    fn tell_status(&self, outgoing: Option<&mpsc::Sender<NodeReport>>) {
        let Some(outgoing) = outgoing else { return };
        let shards = self.state.borrow().shards.iter().enumerate().map(convert::shard_status).collect();
        // A report that finds no room is followed by a newer one.
        let _ = outgoing.try_send(NodeReport { report: Some(Told::Status(NodeStatus { shards })) });
    }
}

/// Opens the control channel and says who we are.
async fn attach(
    control: String,
    api_key: String,
    hello: NodeHello,
) -> Result<(mpsc::Sender<NodeReport>, Streaming<NodeCommand>), tonic::Status> {
    let unreachable = |error: tonic::transport::Error| tonic::Status::unavailable(chain(&error));
    let endpoint = tonic::transport::Endpoint::from_shared(control).map_err(unreachable)?;
    let channel = endpoint.connect_timeout(RECONNECT_DELAY_MAX).connect().await.map_err(unreachable)?;
    let (outgoing, reports) = mpsc::channel(REPORTS_MAX);
    // There is room: the channel is new.
    let _ = outgoing.try_send(NodeReport { report: Some(Told::Hello(hello)) });
    let mut request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(reports));
    if !api_key.is_empty() {
        let bearer = format!("Bearer {api_key}").parse();
        let bearer = bearer.map_err(|_| tonic::Status::unauthenticated("the API key is no header value"))?;
        request.metadata_mut().insert("authorization", bearer);
    }
    let incoming = NodeServiceClient::new(channel).attach(request).await?.into_inner();
    Ok((outgoing, incoming))
}

/// Once, at the start: what the operator can change is in `aetherflow tune --check`.
fn log_features(shard: usize, features: &Features) {
    let in_use = features.names(FeatureStatus::InUse);
    info!(shard, in_use, available = features.names(FeatureStatus::Available), "packet path");
    for feature in features.iter().filter(|feature| feature.status == FeatureStatus::Absent) {
        warn!(shard, feature = feature.name, reason = %feature.reason, "the packet path does without");
    }
}

fn note(state: &mut ShardState, shard: usize, report: &Report) {
    match *report {
        Report::Serving { documents, ops, ops_stored, cut_bytes } => {
            info!(shard, documents, ops, ops_stored, cut_bytes, "log recovered");
            state.recovered_ops = ops;
            state.recovered_ops_stored = ops_stored;
            state.serving = true;
        }
        Report::Ready => state.ready = true,
        Report::SettingsApplied(version) => info!(shard, version, "settings applied"),
        Report::LogHeld { .. } => {}
        Report::Drained => state.drained = true,
    }
}

fn note_store(state: &mut ShardState, shard: usize, failure: Option<String>) {
    match &failure {
        Some(reason) => error!(shard, reason, "the store takes no writes: edits go on, and the log grows"),
        None => info!(shard, "the store takes writes again"),
    }
    state.store_failure = failure;
}

async fn push(link: &mut ShardLink, command: Command) {
    let mut command = command;
    while let Err(full) = link.commands.try_push(command) {
        command = full.0;
        link.doorbell.ring();
        tokio::time::sleep(RING_RETRY).await;
    }
    link.doorbell.ring();
}

async fn next(incoming: &mut Option<Streaming<NodeCommand>>) -> Result<Option<NodeCommand>, tonic::Status> {
    match incoming {
        Some(stream) => stream.message().await,
        None => std::future::pending().await,
    }
}

/// True as soon as the drain has been asked for; never when nobody is left to ask for it.
async fn drain_asked(drain: &mut watch::Receiver<bool>) -> bool {
    match drain.wait_for(|asked| *asked).await {
        Ok(_) => true,
        Err(_) => std::future::pending().await,
    }
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
