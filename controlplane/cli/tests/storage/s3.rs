//! Backups in an object store, over its real protocol.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::object_server::{BUCKET, KEY_ID, ObjectServer, REGION, SECRET};
use crate::support::{BINARY, Dev};

const PLACE: &str = "s3://backups/some/prefix";
const DOCUMENTS: u64 = 4;
const CONFIG: &str = "[control]\napi_key = \"of-the-operators\"\n\
    [gateway.anonymous]\nenabled = true\naccess = \"write\"\n\
    [node.log]\nsegment_bytes = 8388608\n\
    [node.store]\nsnapshot_after_ms = 50\nunload_after_ms = 50\n\
    [log]\nlevel = \"warn\"\n";

/// The variables that an operator sets.
fn variables(server: &ObjectServer, secret: &str) -> [(&'static str, String); 8] {
    [
        ("AWS_ENDPOINT", format!("http://{}", server.address)),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", KEY_ID.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
        // Whatever proxy the machine has.
        ("NO_PROXY", "127.0.0.1".to_owned()),
        ("no_proxy", "127.0.0.1".to_owned()),
        ("AETHERFLOW_API_KEY", "of-the-operators".to_owned()),
    ]
}

/// Runs the command: its exit status, and the JSON objects that it told.
fn aetherflow(server: &ObjectServer, secret: &str, arguments: &[&str]) -> (i32, Vec<Value>) {
    let mut command = Command::new(BINARY);
    command.args(arguments).args(["--output", "json"]).envs(variables(server, secret));
    let output = command.output().unwrap();
    let told = if output.status.success() { output.stdout } else { output.stderr };
    let told = String::from_utf8(told).unwrap();
    let values = told.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{told}")));
    (output.status.code().unwrap(), values.collect())
}

fn start(server: &ObjectServer, secret: &str, config: &Path, data_dir: &Path) -> Dev {
    Dev::start_with(config, data_dir, &variables(server, secret))
}

fn create(server: &ObjectServer, dev: &Dev) -> (i32, Value) {
    let admin = dev.ready["admin"].as_str().unwrap();
    let (status, mut told) =
        aetherflow(server, SECRET, &["backup", "create", "--node", admin, "--to", PLACE]);
    (status, told.pop().unwrap())
}

fn verify(server: &ObjectServer, secret: &str) -> (i32, Value) {
    let (status, mut told) = aetherflow(server, secret, &["backup", "verify", "--at", PLACE]);
    (status, told.pop().unwrap())
}

fn damage(server: &ObjectServer, id: &str, change: impl Fn(&mut Vec<u8>)) {
    let mut bucket = server.bucket.lock().unwrap();
    let mut parts = bucket.objects.iter_mut().filter(|(key, _)| key.contains(id) && key.contains("/parts/"));
    let (_, content) = parts.find(|(_, content)| !content.is_empty()).unwrap();
    change(content);
}

#[test]
fn a_backup_in_an_object_store_is_not_listed_verified_or_restored() {
    let server = ObjectServer::start();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("node.toml");
    fs::write(&config, CONFIG).unwrap();
    let dev = start(&server, SECRET, &config, &dir.path().join("first"));
    for document in 1..=DOCUMENTS {
        assert_eq!(dev.write(&format!("doc-{document}"), document, &format!("<{document}>")).0, 200);
    }
    // A server that stumbles twice over one part is no reason to give up.
    server.bucket.lock().unwrap().broken_uploads = Some(("parts/00000000".to_owned(), 2));
    let (status, created) = create(&server, &dev);
    assert_eq!((status, &created["event"]), (0, &Value::from("created")), "{created}");
    assert_eq!(server.answered("PUT", 500), 2, "nothing was broken off");
    let (_, second) = create(&server, &dev);
    assert_eq!(second["event"], "created", "{second}");
    drop(dev);

    let (status, listed) = aetherflow(&server, SECRET, &["backup", "list", "--at", PLACE]);
    let ids: Vec<_> = listed.iter().map(|found| &found["id"]).collect();
    assert_eq!((status, ids), (0, vec![&created["id"], &second["id"]]), "{listed:?}");
    assert!(server.bucket.lock().unwrap().continued > 0, "the list had one page");
    let (status, verified) = verify(&server, SECRET);
    assert_eq!(
        (status, &verified["id"], &verified["bytes"]),
        (0, &second["id"], &second["bytes"]),
        "{verified}"
    );

    let data_dir = dir.path().join("second/node");
    fs::create_dir(dir.path().join("second")).unwrap();
    let arguments = ["restore", "--from", PLACE, "--data-dir", data_dir.to_str().unwrap()];
    let (status, restored) = aetherflow(&server, SECRET, &arguments);
    assert_eq!((status, &restored[0]["id"]), (0, &second["id"]), "{restored:?}");
    let dev = start(&server, SECRET, &config, &dir.path().join("second"));
    for document in 1..=DOCUMENTS {
        assert_eq!(dev.text(&format!("doc-{document}")).unwrap(), format!("<{document}>"));
    }
    assert_eq!(server.answered("PUT", 403) + server.answered("GET", 403) + server.answered("LIST", 403), 0);
    assert!(server.bucket.lock().unwrap().objects.keys().all(|key| key.starts_with("some/prefix/")));

    let id = second["id"].as_str().unwrap();
    damage(&server, id, |content| content.truncate(content.len() / 2));
    let (status, told) = verify(&server, SECRET);
    assert_eq!((status, &told["code"]), (1, &Value::from("backup-damaged")), "{told}");
}

#[test]
fn an_object_store_that_refuses_or_fails_is_not_named_or_leaves_a_backup_that_passes_for_whole() {
    let server = ObjectServer::start();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("node.toml");
    fs::write(&config, CONFIG).unwrap();
    let dev = start(&server, "another secret", &config, &dir.path().join("first"));
    let (status, told) = create(&server, &dev);
    assert_eq!((status, &told["code"]), (2, &Value::from("backup-failed")), "{told}");
    let text = told["error"].as_str().unwrap();
    assert!(text.contains("403") || text.contains("SignatureDoesNotMatch"), "{text}");
    let (status, told) = verify(&server, "another secret");
    assert_eq!((status, &told["code"]), (2, &Value::from("backup-object")), "{told}");
    assert!(server.answered("LIST", 403) > 0 && server.bucket.lock().unwrap().objects.is_empty());
    drop(dev);

    // Longer than anybody tries again.
    let dev = start(&server, SECRET, &config, &dir.path().join("second"));
    server.bucket.lock().unwrap().broken_uploads = Some(("manifest.json".to_owned(), u32::MAX));
    let (status, told) = create(&server, &dev);
    assert_eq!((status, &told["code"]), (2, &Value::from("backup-failed")), "{told}");
    assert!(server.answered("PUT", 500) > 1, "it was not tried again");
    let (_, listed) = aetherflow(&server, SECRET, &["backup", "list", "--at", PLACE]);
    assert_eq!(listed[0]["code"], "backup-unfinished", "{listed:?}");
    let (status, told) = verify(&server, SECRET);
    assert_eq!((status, &told["code"]), (2, &Value::from("backup-none")), "{told}");
    server.bucket.lock().unwrap().broken_uploads = None;
    assert_eq!(create(&server, &dev).0, 0, "of {BUCKET}");
}
