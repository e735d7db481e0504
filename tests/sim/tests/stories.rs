//! Every story in `tests/stories` must be true. `STORY=name` tells that one (`-- --nocapture`).

use std::path::{Path, PathBuf};

use sim::story;

/// Fewer were not found, or not written.
const STORIES_MIN: usize = 12;

/// Every story: its file and its text.
fn stories() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../stories");
    let paths = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let stories = paths.filter(|path| path.extension().is_some_and(|extension| extension == "txt"));
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (format!("tests/stories/{name}"), std::fs::read_to_string(&path).unwrap())
    };
    let mut stories: Vec<_> = stories.map(read).collect();
    stories.sort();
    assert!(stories.len() >= STORIES_MIN, "{} stories in {}", stories.len(), folder.display());
    stories
}

#[test]
fn a_story_is_not_true() {
    let wanted = std::env::var("STORY").ok();
    let mut failures = Vec::new();
    for (file, text) in stories() {
        let (telling, result) = story::run(&file, &text);
        if let Some(telling) = telling.filter(|_| wanted.as_ref().is_some_and(|name| file.contains(name))) {
            println!("{file}\n{telling}");
        }
        failures.extend(result.err().into_iter().flatten());
    }
    let report: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "\n{}", report.join("\n"));
}

/// The opposite of an expectation.
fn opposite(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["expect", "counter", name, ">=", value] => {
            let below = value.parse::<u64>().unwrap().checked_sub(1).expect("`>= 0` says nothing");
            format!("expect counter {name} <= {below}")
        }
        ["expect", "counter", name, _, value] => {
            format!("expect counter {name} >= {}", value.parse::<u64>().unwrap() + 1)
        }
        ["expect", who, "never", ref rest @ ..] => format!("expect {who} {}", rest.join(" ")),
        ["expect", who, ref rest @ ..] => format!("expect {who} never {}", rest.join(" ")),
        _ => panic!("{line}"),
    }
}

#[test]
fn the_opposite_of_a_story_is_true_as_well() {
    for (file, text) in stories() {
        let lines: Vec<&str> = text.lines().collect();
        for index in (0..lines.len()).filter(|&index| lines[index].starts_with("expect ")) {
            let opposite = opposite(lines[index]);
            let mut changed = lines.clone();
            changed[index] = &opposite;
            let failures = story::run(&file, &changed.join("\n")).1.err().unwrap_or_default();
            let told: Vec<usize> = failures.iter().map(|failure| failure.line).collect();
            assert_eq!(told, [index + 1], "{file}: {opposite}: {failures:?}");
        }
    }
}

/// The failures of a story about one message, to which `lines` are added from line 4 on.
fn told(lines: &str) -> Vec<String> {
    let text = format!(
        "network delay=10ms\nat 0ms client connects\nat 0ms client sends sync 200 bytes\n{lines}\nuntil 1s\n"
    );
    let (_, result) = story::run("told.txt", &text);
    result.err().into_iter().flatten().map(|failure| failure.to_string()).collect()
}

#[test]
fn a_wrong_expectation_is_believed() {
    assert_eq!(told("expect node delivers sync 0 at 10ms"), [] as [&str; 0]);
    let wrong = [
        ("expect node delivers sync 0 at 11ms", "10.000 ms node delivers sync 0"),
        ("expect node delivers sync 1", "10.000 ms node delivers sync 0"),
        ("expect node delivers presence 0", "10.000 ms node delivers sync 0"),
        ("expect client delivers sync 0", "nothing of the kind"),
        ("expect node never delivers sync 0", "10.000 ms node delivers sync 0"),
        ("expect client sends REPAIR by 400ms", "client sends INITIAL 0"),
        ("expect client never sends INITIAL", "0.000 ms client sends INITIAL 0"),
        ("expect client connects from 21ms to 30ms", "20.000 ms client connects"),
        ("expect client closed with 10", "nothing of the kind"),
        ("expect counter client.packets_lost = 1", "it is 0"),
        ("expect counter client.messages_sent <= 0", "it is 1"),
        ("expect counter client.apples = 1", "no such counter"),
    ];
    for (line, instead) in wrong {
        let failures = told(line);
        let [failure] = &failures[..] else { panic!("{line}: {failures:?}") };
        assert!(failure.starts_with("told.txt:4: expected `"), "{failure}");
        assert!(failure.contains(line.trim_start_matches("expect ")), "{failure}");
        assert!(failure.contains(instead), "{failure}");
    }
}

#[test]
fn something_that_did_not_happen_is_told() {
    let held = "expect node delivers sync 0\n";
    let wrong = [
        ("drop client datagram 99", "no such datagram"),
        ("drop the next node datagram with REPAIR", "no such datagram"),
        ("at 2s NAT rebinds", "after the end"),
        ("at 1ms client connects", "already"),
        ("at 1ms node sends sync 10 bytes", "no connection"),
        ("at 1ms client updates keys", "cannot change its keys"),
    ];
    for (line, why) in wrong {
        let failures = told(&format!("{held}{line}"));
        let [failure] = &failures[..] else { panic!("{line}: {failures:?}") };
        assert!(failure.starts_with("told.txt:5: ") && failure.contains(why), "{failure}");
    }
}

#[test]
fn a_line_that_says_nothing_is_skipped() {
    let nonsense = [
        "at 1ms client dances",
        "at soon client connects",
        "at 1ms client sends sync 3 bytes",
        "at 1ms client sends gossip 30 bytes",
        "drop datagram",
        "expect client sends",
        "expect counter client.packets_lost 1",
        "network delay=long",
        "set fec perhaps",
        "set apples on",
        "once upon a time",
    ];
    for line in nonsense {
        let failures = told(line);
        assert!(failures.len() == 1 && failures[0].starts_with("told.txt:4: `"), "{line}: {failures:?}");
    }
    assert!(told("# nothing")[0].contains("expects nothing"));
}
