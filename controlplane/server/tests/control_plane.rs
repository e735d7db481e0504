//! The control plane over real gRPC on loopback, as clients, gateways and nodes use it.

#[path = "../../store/tests/etcd_server/mod.rs"]
mod etcd_server;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use etcd_server::EtcdServer;
use model::config::IdlePolicy;
use model::{Config, Settings};
use proto::v1;
use proto::v1::node_command::Command;
use proto::v1::node_report::Report;
use proto::v1::node_service_client::NodeServiceClient;
use proto::v1::session_service_client::SessionServiceClient;
use server::ControlPlane;
use store::{EmbeddedStore, MetaStore};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use wire::{Access, Grant, Guuid, TicketKeyRing};

struct Fixture {
    control: ControlPlane,
    channel: Channel,
    dir: TempDir,
}

async fn start_in(dir: TempDir, config: &Config) -> Fixture {
    let store: Arc<dyn MetaStore> = Arc::new(EmbeddedStore::open(&dir.path().join("meta")).unwrap());
    let control = ControlPlane::start(config, store, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", control.address())).unwrap();
    Fixture { channel: endpoint.connect().await.unwrap(), control, dir }
}

async fn start() -> Fixture {
    start_in(tempfile::tempdir().unwrap(), &Config::default()).await
}

fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn grant(pattern: &str) -> v1::Grant {
    v1::Grant { pattern: pattern.to_owned(), access: v1::Access::Write as i32 }
}

fn asked(ttl_s: u32) -> v1::CreateSessionRequest {
    v1::CreateSessionRequest { user: "ann".to_owned(), grants: vec![grant("team/*")], ttl_s }
}

impl Fixture {
    fn sessions(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel.clone())
    }

    async fn create(&self, ttl_s: u32) -> (v1::Session, String) {
        let created = self.sessions().create_session(asked(ttl_s)).await.unwrap().into_inner();
        (created.session.unwrap(), created.token)
    }

    async fn issue(&self, token: &str, previous: &[u8]) -> Result<v1::IssueTicketResponse, Status> {
        let request = v1::IssueTicketRequest { token: token.to_owned(), previous_ticket: previous.to_vec() };
        Ok(self.sessions().issue_ticket(request).await?.into_inner())
    }

    async fn attach(&self, node_id: &str, start: u64, shards: u32) -> Node {
        Node::attach(&self.channel, hello(node_id, start, shards)).await
    }

    async fn restart(self, config: &Config) -> Self {
        let Self { control, channel, dir } = self;
        drop(channel);
        control.shutdown().await;
        start_in(dir, config).await
    }
}

fn hello(node_id: &str, start: u64, shards: u32) -> v1::NodeHello {
    v1::NodeHello {
        node_id: node_id.to_owned(),
        incarnation: Guuid::new(start, [0; 10]).as_bytes().to_vec(),
        quantum_address: "127.0.0.1:7400".to_owned(),
        shards,
        version: "1".to_owned(),
    }
}

struct Node {
    reports: mpsc::Sender<v1::NodeReport>,
    commands: Streaming<v1::NodeCommand>,
}

/// What a node has been told when it is ready.
struct Told {
    keys: TicketKeyRing,
    settings: v1::NodeSettings,
    map: v1::PartitionMap,
    revoked: Vec<Vec<u8>>,
}

impl Node {
    async fn attach(channel: &Channel, hello: v1::NodeHello) -> Self {
        let (reports, sent) = mpsc::channel(8);
        let mut client = NodeServiceClient::new(channel.clone());
        let commands = client.attach(ReceiverStream::new(sent)).await.unwrap().into_inner();
        let node = Self { reports, commands };
        node.report(Report::Hello(hello)).await;
        node
    }

    async fn report(&self, report: Report) {
        self.reports.send(v1::NodeReport { report: Some(report) }).await.unwrap();
    }

    async fn next(&mut self) -> Result<Command, Status> {
        let command = self.commands.message().await?.expect("the stream goes on");
        Ok(command.command.expect("a command"))
    }

    async fn told(&mut self) -> Told {
        let (mut keys, mut settings, mut revoked) = (None, None, Vec::new());
        loop {
            match self.next().await.unwrap() {
                Command::TicketKeys(found) => keys = Some(found),
                Command::Settings(found) => settings = Some(found),
                Command::SessionRevoked(found) => revoked.push(found.session_id),
                Command::Map(map) => {
                    let key = |key: v1::TicketKey| (key.key_id, key.secret.try_into().unwrap());
                    let keys = TicketKeyRing::new(keys.unwrap().keys.into_iter().map(key));
                    return Told { keys, settings: settings.unwrap(), map, revoked };
                }
            }
        }
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, text: &str) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().starts_with(text), "{status}");
}

#[tokio::test]
async fn a_ticket_does_not_open_with_the_keys_of_the_node() {
    let fixture = start().await;
    let mut node = fixture.attach("n1", 1, 2).await;
    let told = node.told().await;
    let (session, token) = fixture.create(0).await;
    let issued = fixture.issue(&token, &[]).await.unwrap();
    let ticket = told.keys.open(&issued.ticket, now_unix_s()).unwrap();
    assert_eq!(ticket.session_id.as_bytes()[..], session.session_id);
    assert_eq!(ticket.writer_id.as_bytes()[..], issued.writer_id);
    assert_eq!(ticket.writer_id.counter(), 0);
    assert_eq!(ticket.psk[..], issued.psk);
    assert_eq!(ticket.expires_unix_s * 1_000, issued.expires_unix_ms);
    assert_eq!(ticket.grants, [Grant { pattern: "team/*".to_owned(), access: Access::Write }]);
    assert_eq!(issued.map, Some(told.map));
}

#[tokio::test]
async fn a_writer_changes_or_is_taken_over_by_another_session() {
    let fixture = start().await;
    let (_, token) = fixture.create(0).await;
    let first = fixture.issue(&token, &[]).await.unwrap();
    let next = fixture.issue(&token, &first.ticket).await.unwrap();
    assert_eq!(next.writer_id, first.writer_id);
    assert_ne!(next.psk, first.psk);
    assert_ne!(fixture.issue(&token, &[]).await.unwrap().writer_id, first.writer_id);
    let (_, other) = fixture.create(0).await;
    refused(
        fixture.issue(&other, &first.ticket).await,
        Code::InvalidArgument,
        "AF1204 invalid-previous-ticket",
    );
    let mut forged = first.ticket.clone();
    forged[40] ^= 1;
    refused(fixture.issue(&token, &forged).await, Code::InvalidArgument, "AF1204 invalid-previous-ticket");
    refused(fixture.issue(&token, b"x").await, Code::InvalidArgument, "AF1204 invalid-previous-ticket");
}

#[tokio::test]
async fn an_unknown_expired_or_revoked_session_gets_a_ticket() {
    let fixture = start().await;
    let (session, token) = fixture.create(0).await;
    let mut wrong = token.clone();
    let last = if wrong.pop() == Some('0') { '1' } else { '0' };
    wrong.push(last);
    for unknown in [wrong.as_str(), "", ".", "x.y", &token[1..], &format!("{}.", Guuid::NIL)] {
        refused(fixture.issue(unknown, &[]).await, Code::Unauthenticated, "AF1201 unknown-session");
    }
    let authenticate = v1::AuthenticateRequest { token: token.clone() };
    assert_eq!(fixture.sessions().authenticate(authenticate).await.unwrap().into_inner(), session);

    let session_id = session.session_id.clone();
    fixture.sessions().revoke_session(v1::RevokeSessionRequest { session_id }).await.unwrap();
    refused(fixture.issue(&token, &[]).await, Code::Unauthenticated, "AF1202 session-revoked");
    let request = v1::GetSessionRequest { session_id: session.session_id };
    assert!(fixture.sessions().get_session(request).await.unwrap().into_inner().revoked);

    let (short, token) = fixture.create(1).await;
    assert_eq!(short.expires_unix_ms - short.created_unix_ms, 1_000);
    let status = loop {
        match fixture.issue(&token, &[]).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(status) => break status,
        }
    };
    refused(Err::<(), _>(status), Code::Unauthenticated, "AF1203 session-expired");
    let nobody = v1::GetSessionRequest { session_id: vec![7; 16] };
    refused(fixture.sessions().get_session(nobody).await, Code::NotFound, "AF1201 unknown-session");
}

#[tokio::test]
async fn a_session_that_no_ticket_can_carry_is_created() {
    let fixture = start().await;
    let create = async |request| fixture.sessions().create_session(request).await;
    let invalid = "AF1206 invalid-request";
    refused(
        create(v1::CreateSessionRequest { user: String::new(), ..asked(0) }).await,
        Code::InvalidArgument,
        invalid,
    );
    refused(
        create(v1::CreateSessionRequest { grants: vec![], ..asked(0) }).await,
        Code::InvalidArgument,
        invalid,
    );
    let grants = vec![v1::Grant { pattern: "a".to_owned(), access: 0 }];
    refused(create(v1::CreateSessionRequest { grants, ..asked(0) }).await, Code::InvalidArgument, invalid);
    refused(create(asked(u32::MAX)).await, Code::InvalidArgument, invalid);
    let grants = (0..4).map(|i| grant(&format!("{i}{}", "x".repeat(200)))).collect();
    let large = create(v1::CreateSessionRequest { grants, ..asked(0) }).await;
    refused(large, Code::InvalidArgument, "AF1205 ticket-too-large");
    let short = v1::GetSessionRequest { session_id: vec![1; 15] };
    refused(
        fixture.sessions().get_session(short).await,
        Code::InvalidArgument,
        "AF1206 invalid-request: session_id",
    );
}

#[tokio::test]
async fn a_caller_without_the_api_key_is_served() {
    let mut config = Config::default();
    config.control.api_key = "secret".to_owned();
    let fixture = start_in(tempfile::tempdir().unwrap(), &config).await;
    let with = |key: &str| {
        let mut request = Request::new(asked(0));
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        request
    };
    let denied = "AF1207 api-key-refused";
    refused(fixture.sessions().create_session(asked(0)).await, Code::Unauthenticated, denied);
    refused(fixture.sessions().create_session(with("Secret")).await, Code::Unauthenticated, denied);
    let session_id = vec![1; 16];
    let revoke = v1::RevokeSessionRequest { session_id };
    refused(fixture.sessions().revoke_session(revoke).await, Code::Unauthenticated, denied);
    refused(fixture.sessions().watch_map(v1::WatchMapRequest {}).await, Code::Unauthenticated, denied);
    let (_, sent) = mpsc::channel(1);
    let attach = NodeServiceClient::new(fixture.channel.clone()).attach(ReceiverStream::new(sent)).await;
    refused(attach, Code::Unauthenticated, denied);

    let created = fixture.sessions().create_session(with("secret")).await.unwrap().into_inner();
    fixture.issue(&created.token, &[]).await.unwrap();
    let mut watch = Request::new(v1::WatchMapRequest {});
    let bearer = format!("Bearer {}", created.token).parse().unwrap();
    watch.metadata_mut().insert("authorization", bearer);
    fixture.sessions().watch_map(watch).await.unwrap();
}

#[tokio::test]
async fn a_restart_forgets_sessions_keys_or_the_map() {
    let config = Config::default();
    let fixture = start().await;
    let told = fixture.attach("n1", 1, 2).await.told().await;
    let (_, token) = fixture.create(0).await;
    let first = fixture.issue(&token, &[]).await.unwrap();
    let (revoked, _) = fixture.create(0).await;
    let session_id = revoked.session_id.clone();
    fixture.sessions().revoke_session(v1::RevokeSessionRequest { session_id }).await.unwrap();

    let fixture = fixture.restart(&config).await;
    let next = fixture.issue(&token, &first.ticket).await.unwrap();
    assert_eq!(next.writer_id, first.writer_id);
    told.keys.open(&next.ticket, now_unix_s()).unwrap();
    assert_eq!(next.map, Some(told.map));
    let again = fixture.attach("n1", 1, 2).await.told().await;
    assert_eq!(again.settings, told.settings);
    assert_eq!(again.revoked, [revoked.session_id]);
    again.keys.open(&first.ticket, now_unix_s()).unwrap();
}

#[tokio::test]
async fn an_attached_node_is_not_told_of_changes() {
    let fixture = start().await;
    let mut node = fixture.attach("n1", 1, 2).await;
    let told = node.told().await;
    assert_eq!((told.settings.version, told.settings.idle_policy.as_str()), (1, "adaptive"));
    assert_eq!((told.map.revision, told.map.owners.len()), (1, 256));
    let modulo = |(p, owner): (usize, &v1::PartitionOwner)| owner.shard == p as u32 % 2 && owner.epoch == 1;
    assert!(told.map.owners.iter().enumerate().all(modulo));

    let (session, _) = fixture.create(0).await;
    let session_id = session.session_id.clone();
    fixture.sessions().revoke_session(v1::RevokeSessionRequest { session_id }).await.unwrap();
    assert!(
        matches!(node.next().await.unwrap(), Command::SessionRevoked(r) if r.session_id == session.session_id)
    );

    let settings = Settings { presence_tick_ms: 50, ..Settings::default() };
    let version = fixture.control.update_settings(IdlePolicy::Saver, settings).await.unwrap();
    let Command::Settings(pushed) = node.next().await.unwrap() else { panic!("no settings") };
    assert_eq!(
        (pushed.version, pushed.presence_tick_ms, pushed.idle_policy.as_str()),
        (version, 50, "saver")
    );
    assert_eq!(fixture.control.update_settings(IdlePolicy::Saver, settings).await.unwrap(), version);

    node.report(Report::ConfigApplied(v1::ConfigApplied { version, error: String::new() })).await;
    let shard = v1::ShardStatus { shard: 1, connections: 2, documents: 3, ops_total: 4, log_bytes_total: 5 };
    node.report(Report::Status(v1::NodeStatus { shards: vec![shard] })).await;
    let view = loop {
        let view = fixture.control.nodes().pop().unwrap();
        if !view.shards.is_empty() {
            break view;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((view.settings_version, view.shards[0].ops_total), (version, 4));
}

#[tokio::test]
async fn a_watcher_of_the_map_misses_a_node() {
    let fixture = start().await;
    let watching = fixture.sessions().watch_map(v1::WatchMapRequest {}).await.unwrap();
    let mut maps = watching.into_inner();
    let empty = maps.message().await.unwrap().unwrap();
    assert_eq!((empty.revision, empty.partition_count, empty.owners.len()), (0, 256, 0));
    let first = fixture.attach("n1", 1, 2).await.told().await.map;
    assert_eq!(maps.message().await.unwrap().unwrap(), first);
    fixture.attach("n2", 1, 2).await.told().await;
    let second = maps.message().await.unwrap().unwrap();
    assert_eq!((second.nodes.len(), second.owners == first.owners), (2, true), "data stays where its log is");
    fixture.attach("n1", 2, 3).await.told().await;
    let third = maps.message().await.unwrap().unwrap();
    assert!(third.owners.iter().enumerate().all(|(p, owner)| owner.node == 0 && owner.shard == p as u32 % 3));
    assert!(
        third
            .owners
            .iter()
            .zip(&second.owners)
            .all(|(new, old)| new.epoch == old.epoch + u64::from(new.shard != old.shard))
    );
    fixture.control.shutdown().await;
    assert!(matches!(maps.message().await, Ok(None)));
}

#[tokio::test]
async fn two_processes_serve_as_one_node() {
    let fixture = start().await;
    let mut first = fixture.attach("n1", 5, 2).await;
    first.told().await;
    let mut second = fixture.attach("n1", 6, 2).await;
    second.told().await;
    refused(first.next().await, Code::Aborted, "AF1302 node-superseded");
    refused(fixture.attach("n1", 5, 2).await.next().await, Code::Aborted, "AF1302 node-superseded");
    let mut same = fixture.attach("n1", 6, 2).await;
    same.told().await;
    refused(second.next().await, Code::Aborted, "AF1302 node-superseded");
    assert_eq!(fixture.control.nodes().len(), 1);
}

#[tokio::test]
async fn a_node_that_cannot_be_is_registered() {
    let fixture = start().await;
    for bad in [
        v1::NodeHello { node_id: "a b".to_owned(), ..hello("n", 1, 1) },
        v1::NodeHello { shards: 0, ..hello("n", 1, 1) },
        v1::NodeHello { shards: 257, ..hello("n", 1, 1) },
        v1::NodeHello { incarnation: vec![1; 3], ..hello("n", 1, 1) },
        v1::NodeHello { quantum_address: "nowhere".to_owned(), ..hello("n", 1, 1) },
    ] {
        let mut node = Node::attach(&fixture.channel, bad).await;
        refused(node.next().await, Code::InvalidArgument, "AF1301 invalid-node-hello");
    }
    let (reports, sent) = mpsc::channel(1);
    reports.send(v1::NodeReport { report: None }).await.unwrap();
    let mut client = NodeServiceClient::new(fixture.channel.clone());
    let mut commands = client.attach(ReceiverStream::new(sent)).await.unwrap().into_inner();
    refused(commands.message().await, Code::InvalidArgument, "AF1301 invalid-node-hello");
    assert!(fixture.control.nodes().is_empty());
}

/// Two control planes on one store: what one does the nodes of the other are told.
async fn replicas_agree(store: Arc<dyn MetaStore>) {
    let listen = "127.0.0.1:0".parse().unwrap();
    let replica = async || {
        let control = ControlPlane::start(&Config::default(), Arc::clone(&store), listen).await.unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", control.address())).unwrap();
        let dir = tempfile::tempdir().unwrap();
        Fixture { channel: endpoint.connect().await.unwrap(), control, dir }
    };
    let (one, two) = (replica().await, replica().await);
    let mut node = one.attach("n1", 1, 2).await;
    let told = node.told().await;
    let (session, token) = two.create(0).await;
    let issued = two.issue(&token, &[]).await.unwrap();
    told.keys.open(&issued.ticket, now_unix_s()).unwrap();
    let again = one.issue(&token, &issued.ticket).await.unwrap();
    assert_eq!(again.writer_id, issued.writer_id);
    let session_id = session.session_id.clone();
    two.sessions().revoke_session(v1::RevokeSessionRequest { session_id }).await.unwrap();
    assert!(
        matches!(node.next().await.unwrap(), Command::SessionRevoked(r) if r.session_id == session.session_id)
    );
    refused(one.issue(&token, &[]).await, Code::Unauthenticated, "AF1202 session-revoked");
    let (first, second) = tokio::join!(one.attach("n2", 1, 1), two.attach("n3", 1, 1));
    let maps = [first, second].map(async |mut node| node.told().await.map);
    let [first, second] = maps;
    let (first, second) = tokio::join!(first, second);
    let known = first.nodes.len().max(second.nodes.len());
    assert_eq!((known, first.owners), (3, second.owners));
}

#[tokio::test]
async fn two_control_planes_on_one_file_disagree() {
    let dir = tempfile::tempdir().unwrap();
    replicas_agree(Arc::new(EmbeddedStore::open(&dir.path().join("meta")).unwrap())).await;
}

#[tokio::test]
async fn two_control_planes_on_etcd_disagree() {
    let Some(server) = EtcdServer::start() else { return };
    replicas_agree(Arc::new(server.connect().await)).await;
}

#[tokio::test]
async fn an_address_in_use_is_not_named() {
    let fixture = start().await;
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn MetaStore> = Arc::new(EmbeddedStore::open(&dir.path().join("meta")).unwrap());
    let address = fixture.control.address();
    let error = ControlPlane::start(&Config::default(), store, address).await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
}
