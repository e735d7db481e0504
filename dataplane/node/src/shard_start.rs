//! Bringing up one shard on its core: recover its log, then serve.

use std::net::UdpSocket;
use std::sync::mpsc;
use std::time::Duration;

use docstore::FjallStore;
use quantum::EndpointLimits;
use rt::{
    Doorbell, Layout, LogBuffer, LogDir, PacketRing, PacketRingConfig, SegmentFilesConfig, ShardHandle,
    unix_ms,
};
use shard::{Report, Shard, ShardConfig};
use statesync::{DocumentStore, Limits, Placement, RecoveredOp, StateSync, SyncConfig, WorkerConfig};
use wal::{Body, LogConfig, LogWriter, Op, Open, Recovered};
use wire::limits::{DOCUMENT_ID_BYTES_MAX, OP_BYTES_MAX};
use wire::sync::DocumentKind;
use wire::{Guuid, Span};

use crate::config::NodeConfig;
use crate::error::NodeError;
use crate::log_driver::LogDriver;
use crate::recovery_progress::RecoveryProgress;
use crate::shard_loop::{AgentLink, LoopReport, ShardLoop};
use crate::siblings::Siblings;
use crate::stage_probe::StageProbe;
use crate::storage::{StorageControl, StoragePlan};
use crate::turn_meter::TurnMeter;

/// Partitions assumed until the control plane sends the map; nobody is served before that.
const PARTITIONS_UNTIL_TOLD: u32 = 256;
/// The largest op, with its document's id and the fields before it.
const RECORD_BODY_BYTES_MAX: usize = OP_BYTES_MAX + wal::BLOCK_BYTES;

const _: () = assert!(DOCUMENT_ID_BYTES_MAX + 64 <= wal::BLOCK_BYTES);
const _: () = assert!(rt::STACK_BYTES >= statesync::STACK_BYTES_MIN);

/// What one shard is started with.
pub(crate) struct ShardPlan {
    pub(crate) shard: usize,
    pub(crate) core: Option<usize>,
    /// Those of all shards.
    pub(crate) data_cores: Vec<usize>,
    pub(crate) layout: Layout,
    pub(crate) log_dir: LogDir,
    pub(crate) reset_key: [u8; rt::RESET_KEY_BYTES],
    /// Under which the cluster knows the node.
    pub(crate) address: String,
    pub(crate) config: NodeConfig,
    /// The lanes to the other shards and from them.
    pub(crate) siblings: Siblings,
}

/// A shard whose thread runs.
pub(crate) struct ShardStarted {
    pub(crate) handle: ShardHandle<Result<(), NodeError>>,
    /// Delivers the doorbell when the log is recovered; closes without when that failed.
    pub(crate) ready: mpsc::Receiver<(Doorbell, StorageControl)>,
    /// Takes everybody's doorbells, by shard; the shard serves once it has them.
    pub(crate) doorbells: mpsc::SyncSender<Vec<Doorbell>>,
}

impl ShardPlan {
    /// Starts the thread.
    pub(crate) fn spawn(mut self, socket: UdpSocket, link: AgentLink) -> Result<ShardStarted, NodeError> {
        let (ready_in, ready) = mpsc::sync_channel(1);
        let (doorbells, doorbells_out) = mpsc::sync_channel::<Vec<Doorbell>>(1);
        let name = format!("shard-{}", self.shard);
        let siblings = std::mem::take(&mut self.siblings);
        let handle = rt::spawn_shard(self.core, &name, move || async move {
            let (mut serving, storage) = self.bring_up(socket, link)?;
            // The starter waits for this; when it is gone the whole node is.
            let _ = ready_in.send((serving.ring.doorbell(), storage));
            drop(ready_in);
            // Closes when another shard did not start, and with it the node.
            let Ok(doorbells) = doorbells_out.recv() else { return Ok(()) };
            serving.set_siblings(siblings.with_doorbells(&doorbells));
            serving.run().await
        })?;
        Ok(ShardStarted { handle, ready, doorbells })
    }

    pub(crate) fn bring_up(
        &self,
        socket: UdpSocket,
        mut link: AgentLink,
    ) -> Result<(ShardLoop, StorageControl), NodeError> {
        let storage = self.storage().spawn()?;
        quantum::fec::prepare();
        let core = self.config.core;
        let ring_config = PacketRingConfig {
            poll_datagrams_max: core.datagrams_in_per_turn_max,
            zero_copy_send: core.zero_copy_send,
            busy_poll_us: core.busy_poll_us,
            ..PacketRingConfig::default()
        };
        let ring = PacketRing::new(socket, ring_config)?;
        let log_config = LogConfig {
            segment_bytes: self.config.log_segment_bytes,
            record_body_bytes_max: RECORD_BODY_BYTES_MAX,
            ..LogConfig::new(self.log_id())
        };
        let mut store = storage.store()?;
        let (sync, recovered) = self.recover(&log_config, &mut store, &mut link)?;
        let mut log = LogWriter::recovered(log_config, &recovered, LogBuffer::new)
            .map_err(|error| NodeError::Config(error.to_string()))?;
        let open = Open { incarnation: self.incarnation(&recovered), unix_ms: unix_ms() };
        log.append_open(open).map_err(|error| NodeError::Config(error.to_string()))?;
        let files_config = SegmentFilesConfig {
            segment_bytes: self.config.log_segment_bytes,
            spares_max: self.config.log.spare_segments_max,
        };
        let driver = LogDriver::new(self.shard, self.log_dir.segment_files(files_config, ring.doorbell())?);
        let turns = TurnMeter::new(Duration::from_micros(u64::from(core.stall_budget_us)));
        let probe = StageProbe::new(self.config.stage_sample_turns, turns);
        let shard = Shard::with_probe(self.shard_config()?, sync, log, probe);
        let control = storage.control();
        let storage = storage.serve(store, ring.doorbell());
        Ok((ShardLoop::new(shard, ring, driver, storage, link, self.config.idle_policy, core), control))
    }

    fn storage(&self) -> StoragePlan {
        StoragePlan {
            shard: self.shard,
            path: self.log_dir.path().join(docstore::STORE_NAME),
            log_id: self.log_id(),
            store: self.config.store.store,
            worker: WorkerConfig {
                materialized_bytes_max: self.config.store.merge_cache_bytes,
                ..WorkerConfig::default()
            },
            data_cores: self.data_cores.clone(),
        }
    }

    /// Until the control plane pushes its settings.
    fn sync_config(&self) -> SyncConfig {
        SyncConfig {
            snapshot_after: self.config.store.snapshot_after,
            unload_after: self.config.store.unload_after,
            log_bytes_max: self.config.log.bytes_max,
            limits: Limits {
                document_memory_bytes_max: self.config.store.document_memory_bytes,
                ..Limits::default()
            },
            ..SyncConfig::default()
        }
    }

    /// The number of this run of the log.
    fn incarnation(&self, recovered: &Recovered) -> u64 {
        (recovered.position.incarnation + 1).max(self.layout.incarnation_min)
    }

    fn log_id(&self) -> Guuid {
        self.layout.log_id.with_shard(self.shard as u8)
    }

    /// Reads the log back into documents, as far as the store has not what is in it.
    fn recover(
        &self,
        log_config: &LogConfig,
        store: &mut FjallStore,
        link: &mut AgentLink,
    ) -> Result<(StateSync, Recovered), NodeError> {
        let untrusted = |reason: String| NodeError::Log {
            shard: self.shard,
            path: self.log_dir.path().to_owned(),
            reason,
        };
        let shards = self.layout.shards as u32;
        let placement = Placement::single_node(self.shard as u32, shards, PARTITIONS_UNTIL_TOLD);
        let mut sync = StateSync::new(self.sync_config(), placement, 0);
        let mut refused = None;
        let mut progress = RecoveryProgress::new(self.shard, self.log_dir.bytes()?);
        let mut opened_unix_ms = 0;
        let on_record = |record: &wal::Record<'_>| {
            let (op, is_deletion) = match record.body {
                Body::Op(op) => (op, false),
                Body::Delete(delete) => (delete.as_op(), true),
                Body::Open(open) => {
                    opened_unix_ms = open.unix_ms;
                    return;
                }
                Body::Segment(_) | Body::Trim(_) => return,
            };
            // An op that knows no time was taken after its run of the log began.
            let unix_ms = if op.unix_ms == 0 { opened_unix_ms } else { op.unix_ms };
            let op = Op { unix_ms, ..op };
            if refused.is_none()
                && let Err(reason) = replay(&mut sync, store, record.lsn, &op, is_deletion)
            {
                refused = Some(format!("record {}: {reason}", record.lsn));
            }
        };
        let recovered = wal::recover_observed(&mut self.log_dir.storage(), log_config, on_record, |read| {
            progress.handle(read);
        });
        let recovered = recovered.map_err(|error| untrusted(error.to_string()))?;
        if let Some(reason) = refused {
            return Err(untrusted(reason));
        }
        let finished = sync.finish_recovery(self.incarnation(&recovered), recovered.position.lsn);
        finished.map_err(|error| untrusted(error.to_string()))?;
        let stats = sync.stats();
        let cut_bytes = recovered.repair.as_ref().map_or(0, |repair| repair.range.end - repair.range.start);
        let report = Report::Serving {
            documents: stats.documents,
            ops: stats.ops_recovered,
            ops_stored: stats.ops_recovered_stored,
            cut_bytes,
        };
        // The ring is new: there is room.
        let _ = link.reports.try_push(LoopReport::Shard(report));
        (link.notify)();
        Ok((sync, recovered))
    }

    fn shard_config(&self) -> Result<ShardConfig, NodeError> {
        let mut entropy = [0; 32];
        rt::entropy(&mut entropy)?;
        let receive_buffer_bytes_max = self.config.receive_buffer_bytes_max;
        let send_buffer_bytes_max = self.config.send_buffer_bytes_max;
        Ok(ShardConfig {
            shard: self.shard as u32,
            shards: self.layout.shards as u32,
            transport: self.config.transport.clone(),
            limits: EndpointLimits {
                receive_buffer_bytes_max,
                send_buffer_bytes_max,
                ..EndpointLimits::default()
            },
            sync: self.sync_config(),
            commit_delay_max: Span::from_us(u64::from(self.config.commit_delay_us_max)),
            entropy,
            reset_key: self.reset_key,
            address: self.address.clone(),
            start_unix_ms: unix_ms(),
        })
    }
}

fn replay(
    sync: &mut StateSync,
    store: &mut FjallStore,
    lsn: u64,
    op: &Op<'_>,
    is_deletion: bool,
) -> Result<(), String> {
    let kind = DocumentKind::from_u8(op.kind).ok_or_else(|| format!("document kind {}", op.kind))?;
    let op = RecoveredOp {
        document: op.document,
        kind,
        sequence: op.sequence,
        op_id: op.id,
        lsn,
        unix_ms: op.unix_ms,
        payload: op.payload,
        is_deletion,
    };
    sync.handle_recovered(&op, &mut |document| store.head(document)).map_err(|error| error.to_string())
}
