//! A real etcd server for tests: a process of its own, on free loopback ports, in a directory that goes with it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use store::EtcdStore;
use tempfile::TempDir;

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The running server.
pub(crate) struct EtcdServer {
    process: Child,
    url: String,
    _dir: TempDir,
}

fn free_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

impl EtcdServer {
    /// Starts it, or says that there is none and answers `None`.
    pub(crate) fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (url, peer) = (free_url(), free_url());
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(dir.path().join("etcd"));
        for (option, value) in [
            ("--listen-client-urls", &url),
            ("--advertise-client-urls", &url),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", &format!("default={peer}")),
        ] {
            command.arg(option).arg(value);
        }
        match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(process) => Some(Self { process, url, _dir: dir }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                println!("skipped: etcd-server is not installed");
                None
            }
            Err(error) => panic!("cannot start etcd: {error}"),
        }
    }

    /// Connects as soon as it answers.
    pub(crate) async fn connect(&self) -> EtcdStore {
        let begun = Instant::now();
        loop {
            match EtcdStore::connect(std::slice::from_ref(&self.url)).await {
                Ok(store) => return store,
                Err(error) => assert!(begun.elapsed() < START_TIMEOUT, "etcd does not start: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.process.kill().expect("our own child");
        self.process.wait().expect("our own child");
    }
}
