//! SQL from people harms nothing, and `verify` finds what is wrong with a lake.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use crate::common::events::event;
use crate::common::server::verify;
use crate::common::{Server, kafka, wait_until_eq};

#[test]
fn a_query_without_end_or_measure_gets_an_error_and_ingest_does_not_notice() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--sql-timeout-s", "10", "--sql-memory-mib", "512"]);
    let some: Vec<String> = (0..100).map(|at| event(&format!("some-{at}"), "many", 1).to_string()).collect();
    kafka::publish(&server.log, "usage.events", &some.iter().map(|event| ("", event.as_bytes())).collect::<Vec<_>>());
    wait_until_eq("rows", &100, || server.sql("select id from usage").len());

    let terms = format!("select {}", vec!["1"; 5000].join(" + "));
    let bombs = [
        ("select length(repeat('x', 2000000000)) from usage", None),
        // Without end and with little memory. Tables of our own joined often enough run out of time or of memory, as they lie in the lake.
        (
            "select count(*) from generate_series(1, 2000000) a, generate_series(1, 2000000) b where a.value + b.value = 3",
            Some("10 s"),
        ),
        (terms.as_str(), None),
        ("select a.*, b.*, c.* from usage a, usage b, usage c order by a.id || b.id || c.id", None),
    ];
    let mut tokens = 0;
    for (bomb, expected) in bombs {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| server.sql_as(bomb, "json"));
            // One after the other, each counted before the next.
            let mut beside = 0;
            loop {
                tokens += 1;
                server.post_event(&event(&format!("meanwhile-{tokens}"), "steady", 1));
                wait_until_eq("tokens", &Some(tokens.to_string()), || {
                    server.used(&[("namespace", "steady")], "month", "tokens")
                });
                if running.is_finished() {
                    break;
                }
                beside += 1;
            }
            let answer = running.join().unwrap();
            let shown: String = bomb.chars().take(60).collect();
            // In ten seconds: if ingest stood still, none would be counted.
            assert!(expected.is_none() || beside > 1, "{beside} events were counted beside {shown}");
            assert_eq!(answer.header("content-type"), "application/problem+json", "{shown}");
            assert!([400, 422].contains(&answer.status), "{shown}: {} {}", answer.status, answer.text());
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(expected.is_none_or(|expected| detail.contains(expected)), "{shown}: {detail}");
            eprintln!("{shown}… → {detail} ({:?})", begun.elapsed());
        });
        assert_eq!(server.sql("select count(*) as rows from usage where namespace = 'many'")[0]["rows"], 100);
    }
    for (wrong, word) in
        [("select nothing from usage", "nothing"), ("drop table usage", ""), ("select * from '/etc/passwd'", "")]
    {
        let answer = server.sql_as(wrong, "json").expect(400).json();
        assert!(answer["detail"].as_str().unwrap().contains(word), "{wrong}: {answer}");
    }
}

/// Six commits of two rows and a dead letter each; returns when all is in the lake.
fn fill(data: &Path) -> Server {
    // Three rows and dead letters make a commit, and no time does.
    let server = Server::start(data, &["--commit-interval-ms", "3600000", "--commit-rows", "3"]);
    for at in 0..6 {
        let events = [
            event(&format!("{at}-a"), "lab", 3).to_string(),
            "no event".to_owned(),
            event(&format!("{at}-b"), "lab", 4).to_string(),
        ];
        kafka::publish(
            &server.log,
            "usage.events",
            &events.iter().map(|event| ("k", event.as_bytes())).collect::<Vec<_>>(),
        );
        let rows = json!(2 * (at + 1));
        wait_until_eq("rows in the lake", &rows, || server.get_json("/v1/status")["lake"]["rows"].clone());
    }
    server
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { std::fs::copy(&path, &target).map(drop).unwrap() }
    }
}

fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
}

fn files_of(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(folder, extension, &mut found);
    found
}

#[test]
fn verify_passes_on_a_running_and_a_stopped_lake_and_fails_on_every_damaged_one() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = fill(&data);
    let (sound, said) = verify(&data);
    assert!(sound, "{said}");
    assert!(server.stop().success());
    let (sound, said) = verify(&data);
    assert!(sound, "{said}");
    assert!(said.contains("12") && said.contains('6'), "it says how much it proved: {said}");

    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("a data file is gone", |lake| std::fs::remove_file(&files_of(&lake.join("usage"), "parquet")[0]).unwrap()),
        ("a data file is another one's copy", |lake| {
            let files = files_of(&lake.join("usage"), "parquet");
            std::fs::copy(&files[0], &files[1]).map(drop).unwrap();
        }),
        ("a commit adds a file that was there", add_again),
        ("an account counts one too few", |lake| edit_log(lake, "\"accepted\":2", "\"accepted\":1")),
        ("a range is moved", |lake| edit_log(lake, "\"start\":3", "\"start\":4")),
    ];
    for (what, damage) in damages {
        let copied = dir.path().join("damaged");
        let _not_there = std::fs::remove_dir_all(&copied);
        copy(&data.join("lake"), &copied.join("lake"));
        let (sound, said) = verify(&copied);
        assert!(sound, "the copy itself: {said}");
        damage(&copied.join("lake"));
        let (sound, said) = verify(&copied);
        assert!(!sound, "{what}: verify says\n{said}");
        eprintln!("{what}: {}", said.lines().last().unwrap_or_default());
    }
}

/// Whether any line was changed is part of the damage: an edit that misses would prove nothing. The side table of accounts is removed from
/// the damaged lake: what it holds is a copy of what is changed here.
fn edit_log(lake: &Path, from: &str, to: &str) {
    let _none = std::fs::remove_dir_all(lake.join("accounts"));
    for path in files_of(&lake.join("usage/_delta_log"), "json") {
        let text = std::fs::read_to_string(&path).unwrap();
        // Within a text that is itself JSON the quotes are escaped.
        for (from, to) in [(from.to_owned(), to.to_owned()), (from.replace('"', "\\\""), to.replace('"', "\\\""))] {
            if text.contains(&from) {
                std::fs::write(&path, text.replacen(&from, &to, 1)).unwrap();
                return;
            }
        }
    }
    panic!("no commit has {from}");
}

/// A further commit that adds an old file under a new name: its rows are there twice.
fn add_again(lake: &Path) {
    let log = files_of(&lake.join("usage/_delta_log"), "json");
    let (path, mut action) = log
        .iter()
        .flat_map(|path| std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .find_map(|line| {
            let action: Value = serde_json::from_str(&line).unwrap();
            Some((action["add"]["path"].as_str()?.to_owned(), action))
        })
        .unwrap();
    let again = path.replace(".parquet", "-again.parquet");
    std::fs::copy(lake.join("usage").join(&path), lake.join("usage").join(&again)).unwrap();
    action["add"]["path"] = json!(again);
    let last = log.last().unwrap();
    let version: u64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    std::fs::write(last.with_file_name(format!("{:020}.json", version + 1)), format!("{action}\n")).unwrap();
}
