//! A small S3-compatible server: one bucket in memory, each request's signature checked (AWS Signature Version 4), lists in
//! short pages, and failures on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use aws_lc_rs::{digest, hmac};

/// What may use the bucket.
pub(crate) const KEY_ID: &str = "AKIATEST";
pub(crate) const SECRET: &str = "a-secret-of-the-test";
pub(crate) const REGION: &str = "eu-test-1";
pub(crate) const BUCKET: &str = "backups";
/// Entries of one answer to a list: the rest needs continuation.
const PAGE_ENTRIES: usize = 1;
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What the server has, and what it was asked.
#[derive(Default)]
pub(crate) struct Bucket {
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    /// Each answered request: its method and status, and LIST for a list.
    pub(crate) answered: BTreeMap<(String, u16), u32>,
    /// Lists that began where another ended.
    pub(crate) continued: u32,
    /// Uploads of objects whose name ends so are broken off with an error of the server; so many times.
    pub(crate) broken_uploads: Option<(String, u32)>,
}

pub(crate) struct ObjectServer {
    pub(crate) address: SocketAddr,
    pub(crate) bucket: Arc<Mutex<Bucket>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ObjectServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let bucket = Arc::<Mutex<Bucket>>::default();
        let is_over = Arc::new(AtomicBool::new(false));
        let (shared, over) = (bucket.clone(), is_over.clone());
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let bucket = shared.clone();
                // It ends with its connection.
                std::thread::spawn(move || serve(&stream, &bucket));
            }
        });
        Self { address, bucket, is_over, thread: Some(thread) }
    }

    /// How often a request of this method had this answer.
    pub(crate) fn answered(&self, method: &str, status: u16) -> u32 {
        let bucket = self.bucket.lock().unwrap();
        bucket.answered.get(&(method.to_owned(), status)).copied().unwrap_or(0)
    }
}

impl Drop for ObjectServer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

struct Request {
    method: String,
    path: String,
    /// As sent, in the order of the names.
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

type Answer = (u16, Vec<u8>);

fn serve(stream: &TcpStream, bucket: &Mutex<Bucket>) -> io::Result<()> {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let mut request = read_head(&mut reader)?;
        let length = request.headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let is_broken = request.method == "PUT" && break_upload(&mut bucket.lock().unwrap(), &request.path);
        request.body = vec![0; if is_broken { length / 2 } else { length }];
        reader.read_exact(&mut request.body)?;
        let (status, content) = if is_broken {
            failure(500, "InternalError")
        } else {
            answer(&request, &mut bucket.lock().unwrap())
        };
        let is_list = request.method == "GET" && request.query.contains_key("list-type");
        let method = if is_list { "LIST".to_owned() } else { request.method };
        *bucket.lock().unwrap().answered.entry((method, status)).or_default() += 1;
        let end = if is_broken { "close" } else { "keep-alive" };
        write!(
            writer,
            "HTTP/1.1 {status} -\r\ncontent-length: {}\r\nconnection: {end}\r\netag: \"1\"\r\n\
             last-modified: Mon, 23 Nov 2026 17:00:00 GMT\r\n\r\n",
            content.len()
        )?;
        writer.write_all(&content)?;
        if is_broken {
            return Ok(());
        }
    }
}

fn break_upload(bucket: &mut Bucket, path: &str) -> bool {
    let Some((_, left)) =
        bucket.broken_uploads.as_mut().filter(|(suffix, _)| path.ends_with(suffix.as_str()))
    else {
        return false;
    };
    *left = left.saturating_sub(1);
    if *left == 0 {
        bucket.broken_uploads = None;
    }
    true
}

fn read_head(reader: &mut impl BufRead) -> io::Result<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut words = lines[0].split(' ').map(ToOwned::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    };
    let header = |line: &String| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    Ok(Request {
        method,
        path: path.to_owned(),
        query: pairs.map(pair).collect(),
        headers: lines[1..].iter().map(header).collect(),
        body: Vec::new(),
    })
}

fn answer(request: &Request, bucket: &mut Bucket) -> Answer {
    if let Err(code) = check_signature(request) {
        return failure(403, code);
    }
    let key = request.path.trim_start_matches('/').strip_prefix(BUCKET);
    let Some(key) = key.map(|key| key.trim_start_matches('/').to_owned()) else {
        return failure(404, "NoSuchBucket");
    };
    let found = bucket.objects.get(&key);
    match request.method.as_str() {
        "GET" if request.query.contains_key("list-type") => (200, list(request, bucket).into_bytes()),
        "GET" => found.map_or_else(|| failure(404, "NoSuchKey"), |content| (200, content.clone())),
        "PUT" => {
            bucket.objects.insert(key, request.body.clone());
            (200, Vec::new())
        }
        _ => failure(501, "NotImplemented"),
    }
}

fn failure(status: u16, code: &str) -> Answer {
    let text = format!("<Error><Code>{code}</Code><Message>refused by the test</Message></Error>");
    (status, text.into_bytes())
}

/// ListObjectsV2: keys below a prefix up to the next delimiter, in pages.
fn list(request: &Request, bucket: &mut Bucket) -> String {
    let value = |name| request.query.get(name).map_or_else(String::new, |value| decoded(value));
    assert_eq!(value("list-type"), "2");
    let (prefix, delimiter, from) = (value("prefix"), value("delimiter"), value("continuation-token"));
    bucket.continued += u32::from(!from.is_empty());
    let entry = |key: &String| match key[prefix.len()..].split_once(&delimiter) {
        Some((folder, _)) if !delimiter.is_empty() => (format!("{prefix}{folder}{delimiter}"), true),
        _ => (key.clone(), false),
    };
    let keys = bucket.objects.keys().filter(|key| key.starts_with(&prefix));
    let entries: BTreeSet<_> = keys.map(entry).filter(|(name, _)| *name > from).collect();
    let mut text = format!("<ListBucketResult><IsTruncated>{}</IsTruncated>", entries.len() > PAGE_ENTRIES);
    for (name, is_folder) in entries.iter().take(PAGE_ENTRIES) {
        let shown = if *is_folder {
            format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>")
        } else {
            let bytes = bucket.objects[name].len();
            format!(
                "<Contents><Key>{name}</Key><Size>{bytes}</Size><ETag>1</ETag>\
                 <LastModified>2026-11-23T17:00:00.000Z</LastModified></Contents>"
            )
        };
        text.push_str(&shown);
    }
    if let Some((last, _)) =
        entries.iter().take(PAGE_ENTRIES).next_back().filter(|_| entries.len() > PAGE_ENTRIES)
    {
        let _ = write!(text, "<NextContinuationToken>{last}</NextContinuationToken>");
    }
    text + "</ListBucketResult>"
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// As the Signature Version 4 of AWS asks (docs.aws.amazon.com: "Create a signed AWS API request").
fn check_signature(request: &Request) -> Result<(), &'static str> {
    let header = |name: &str| request.headers.get(name).cloned().ok_or("AccessDenied");
    let authorization = header("authorization")?;
    let fields = authorization.strip_prefix(ALGORITHM).ok_or("AccessDenied")?;
    let field = |name: &str| {
        fields
            .split(',')
            .find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='))
            .ok_or("AccessDenied")
    };
    let (credential, signed, signature) =
        (field("Credential")?, field("SignedHeaders")?, field("Signature")?);
    let (key_id, scope) = credential.split_once('/').ok_or("AccessDenied")?;
    if key_id != KEY_ID {
        return Err("InvalidAccessKeyId");
    }
    let (time, body_hash) = (header("x-amz-date")?, header("x-amz-content-sha256")?);
    if body_hash != hex(digest::digest(&digest::SHA256, &request.body).as_ref()) {
        return Err("XAmzContentSHA256Mismatch");
    }
    let mut canonical = format!("{}\n{}\n", request.method, request.path);
    let query: Vec<_> = request.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    canonical.push_str(&query.join("&"));
    canonical.push('\n');
    for name in signed.split(';') {
        let _ = writeln!(canonical, "{name}:{}", header(name)?);
    }
    let _ = write!(canonical, "\n{signed}\n{body_hash}");
    let request_hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{request_hash}");
    let day = time.get(..8).ok_or("AccessDenied")?;
    if scope != format!("{day}/{REGION}/s3/aws4_request") {
        return Err("AuthorizationHeaderMalformed");
    }
    let secret = format!("AWS4{SECRET}").into_bytes();
    let key = scope.split('/').fold(secret, |key, part| sign(&key, part));
    if hex(&sign(&key, &to_sign)) == signature { Ok(()) } else { Err("SignatureDoesNotMatch") }
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
