//! Rows that restate others: sums are right, the proof holds, and events are found again by their ids.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use support::{DAY, cost, event, id, open, position, push, rows, unit};
use usage_lake::{
    Chain, CommitUnit, EventName, Finding, Format, Lake, LakeError, Lookup, OffsetRange, QueryConfig, QueryInput,
    QueryPool, ReplayColumns, ReplayFrom, Report, ReportRequest, RowBuffer, RowKind, RowRef, Tail, rows_of, verify,
};
use usage_types::TimeUs;

const SOURCE: &str = "gateway/eu-1";

fn name(offset: i64) -> EventName {
    (SOURCE.to_owned(), id(0, offset))
}

/// Pushes what the correction at `offset` of event `original` makes: the reversal of `reverses`, and an amendment with the values of
/// the event of its own offset.
fn correct(buffer: &mut RowBuffer, offset: i64, original: i64, reverses: Option<i64>, amends: bool) {
    let (corrects, own) = (id(0, original), id(0, offset));
    let (position, time) = (position(0, offset), event(0, original).time);
    let reverses_id = reverses.map(|offset| id(0, offset));
    let mut push = |of: i64, kind| {
        let row = RowRef {
            event: &event(0, of),
            time,
            cost: cost(of),
            unpriced_reason: cost(of).is_none().then_some("unknown_model"),
            position,
            late: true,
            clamped: false,
            id: &own,
            kind,
            corrects: Some(&corrects),
            reverses: reverses_id.as_deref(),
        };
        buffer.push(row).unwrap();
    };
    if let Some(reverses) = reverses {
        push(reverses, RowKind::Reversal);
    }
    if amends {
        push(offset, RowKind::Amendment);
    }
}

fn unit_of(mut buffer: RowBuffer, offsets: std::ops::Range<i64>) -> CommitUnit {
    let accepted = (offsets.end - offsets.start) as u64;
    let range = OffsetRange { partition: 0, start: offsets.start, end: offsets.end, accepted, ..Default::default() };
    CommitUnit { rows: buffer.take().unwrap(), ranges: vec![range], ..CommitUnit::default() }
}

/// Events 0..100; 100 voids 5; 101 amends 7, 102 amends it again; 103 voids 8, 104 amends that.
async fn restated(folder: &Path) -> Lake {
    let mut lake = open(folder).await;
    lake.commit(unit(0, 0..100)).await.unwrap();
    let mut buffer = RowBuffer::new();
    correct(&mut buffer, 100, 5, Some(5), false);
    correct(&mut buffer, 101, 7, Some(7), true);
    lake.commit(unit_of(buffer, 100..102)).await.unwrap();
    let mut buffer = RowBuffer::new();
    correct(&mut buffer, 102, 7, Some(101), true);
    correct(&mut buffer, 103, 8, Some(8), false);
    correct(&mut buffer, 104, 8, None, true);
    lake.commit(unit_of(buffer, 102..105)).await.unwrap();
    lake
}

fn pool() -> QueryPool {
    QueryPool::new(QueryConfig {
        program: env!("CARGO_BIN_EXE_test-query-worker").into(),
        arguments: vec![],
        warm: 0,
        running_max: 2,
        waiting_max: 8,
        memory_mib: 512,
        deadline: Duration::from_secs(60),
        rows_max: 100_000,
        bytes_max: 16 << 20,
        threads: 2,
    })
}

async fn sql(lake: &Lake, sql: &str) -> serde_json::Value {
    let input = QueryInput::of_lake(&lake.files(), Tail::default()).unwrap();
    let output = pool().query(sql, input, Format::Json).await.unwrap();
    serde_json::from_slice(&output.bytes).unwrap()
}

#[tokio::test]
async fn a_sum_over_all_rows_is_right_and_the_proof_holds() {
    let folder = tempfile::tempdir().unwrap();
    let lake = restated(folder.path()).await;
    let report = verify(&lake).await.unwrap();
    assert!(report.is_sound(), "{:?}", report.findings);
    // 100 events, and 1 + 2 + 2 + 1 + 1 rows of their corrections.
    assert_eq!((report.usage_rows, report.partitions[0].accepted), (107, 105));

    // What counts: all events but 5, 7 and 8, and those that amend 7 (the second time) and 8.
    let counts: Vec<i64> = (0..100).filter(|offset| ![5, 7, 8].contains(offset)).chain([102, 104]).collect();
    let tokens: u64 = counts.iter().map(|offset| event(0, *offset).tokens.total()).sum();
    let calls: u64 = counts.iter().map(|offset| event(0, *offset).tool_calls).sum();
    let pico: i128 = counts.iter().filter_map(|offset| cost(*offset)).map(|cost| cost.amount.0).sum();
    let found = sql(
        &lake,
        "select sum(total_tokens) as tokens, sum(tool_calls) as calls, sum(requests) as requests, sum(cost) as cost from usage",
    )
    .await;
    let expected = serde_json::json!([{"tokens": tokens, "calls": calls, "requests": 99,
        "cost": format!("{}.{:012}", pico / 1_000_000_000_000, pico % 1_000_000_000_000)}]);
    assert_eq!(found, expected);

    let rows = sql(&lake, "select kind, id, reverses, total_tokens, cost from usage where corrects = 'event-0-7' order by \"offset\", kind desc").await;
    let seven = event(0, 7).tokens.total() as i64;
    let amended = event(0, 101).tokens.total() as i64;
    assert_eq!(rows.as_array().unwrap().len(), 4);
    assert_eq!((&rows[0]["kind"], &rows[0]["total_tokens"]), (&"reversal".into(), &(-seven).into()));
    assert_eq!((&rows[1]["kind"], &rows[1]["total_tokens"]), (&"amendment".into(), &amended.into()));
    assert_eq!((&rows[2]["reverses"], &rows[2]["total_tokens"]), (&"event-0-101".into(), &(-amended).into()));

    // Reports count events, not rows. Of those that count, every tenth offset has no price: 10 of 0..100, and none of the amendments.
    let request = ReportRequest::of(&[("period", "2026")]);
    let report = Report::find("chargeback").unwrap();
    let rows = sql(&lake, &report.render(&request).unwrap()).await;
    let sum = |column: &str| rows.as_array().unwrap().iter().filter_map(|row| row[column].as_i64()).sum::<i64>();
    assert_eq!((sum("events"), sum("unpriced_events")), (99, 10));
}

#[tokio::test]
async fn what_is_read_back_says_what_it_takes_back() {
    let folder = tempfile::tempdir().unwrap();
    let lake = restated(folder.path()).await;
    let batches: Vec<_> = lake.replay(ReplayFrom::default(), ReplayColumns::Balances).try_collect().await.unwrap();
    let mut sums: BTreeMap<RowKind, (usize, i64)> = BTreeMap::new();
    for batch in &batches {
        for row in usage_lake::rows(batch).unwrap() {
            let row = row.unwrap();
            let entry = sums.entry(row.kind).or_default();
            *entry = (entry.0 + 1, entry.1 + row.tokens.total() as i64);
        }
    }
    let total = |offsets: &[i64]| offsets.iter().map(|offset| event(0, *offset).tokens.total() as i64).sum::<i64>();
    assert_eq!(sums[&RowKind::Reversal], (4, total(&[5, 7, 101, 8])));
    assert_eq!(sums[&RowKind::Amendment], (3, total(&[101, 102, 104])));
}

/// Less than the 16 bytes for each id of the lake's larger file, more than the 4 that are kept of it in short.
const SHORT_BYTES: usize = 1_500;

#[tokio::test]
async fn an_event_is_found_with_all_of_its_corrections() {
    let folder = tempfile::tempdir().unwrap();
    let lake = restated(folder.path()).await;
    // The tail and the files answer alike.
    let tail: Vec<_> = lake.replay(ReplayFrom::default(), ReplayColumns::All).try_collect().await.unwrap();
    let wanted: HashSet<EventName> = [5, 7, 8, 9, 99, 101, 777].map(name).into();
    // Room for all ids, for what tells that an id is not there, for nothing.
    for bytes_max in [1 << 20, SHORT_BYTES, 0] {
        let mut lookup = Lookup::new([1, 2], bytes_max);
        for _ in 0..2 {
            let found = lookup.rows_of(&lake.files(), &wanted).await.unwrap();
            for found in [found, rows_of(&tail, &wanted).unwrap()] {
                let chain = |offset: i64| Chain::new(&name(offset), &found);
                let counts = |offset: i64| chain(offset).counts.map(|row| row.event.id.unwrap().into_owned());
                assert_eq!((counts(5), counts(777)), (None, None));
                assert_eq!((counts(7), counts(8)), (Some(id(0, 102)), Some(id(0, 104))));
                assert_eq!((counts(9), counts(99)), (Some(id(0, 9)), Some(id(0, 99))));
                let seven = chain(7);
                assert_eq!(seven.corrections, HashSet::from([id(0, 101), id(0, 102)]));
                assert!(seven.has("event-0-7") && seven.has("event-0-102") && !seven.has("event-0-8"));
                let original = seven.original.unwrap();
                let sent = event(0, 7);
                assert_eq!(
                    (original.time, original.cost, original.append_time),
                    (sent.time, cost(7), position(0, 7).append_time)
                );
                assert_eq!((&original.event.dimensions, &original.event.tags), (&sent.dimensions, &sent.tags));
                assert_eq!(
                    (chain(7).counts.unwrap().time, chain(8).counts.unwrap().time),
                    (sent.time, event(0, 8).time)
                );
                assert!(chain(101).original.is_none() && chain(101).is_restating);
                assert!(chain(777).original.is_none() && !chain(777).is_restating);
            }
        }
    }
}

/// What a search for an id that is nowhere has paid for once it does not pay for again, also where the lake's ids do not fit into memory.
#[tokio::test]
async fn files_that_lack_an_id_are_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let lake = restated(folder.path()).await;
    let files = lake.files();
    let [mut short, mut none] = [SHORT_BYTES, 0].map(|bytes_max| Lookup::new([1, 2], bytes_max));
    for lookup in [&mut short, &mut none] {
        assert_eq!(lookup.rows_of(&files, &[name(777)].into()).await.unwrap(), []);
    }
    for file in files.usage.iter() {
        std::fs::remove_file(folder.path().join("usage").join(&file.path)).unwrap();
    }
    assert_eq!(short.rows_of(&files, &[name(778)].into()).await.unwrap(), []);
    assert!(short.rows_of(&files, &[name(7)].into()).await.is_err(), "what may be there is looked for");
    assert!(none.rows_of(&files, &[name(778)].into()).await.is_err());
}

#[test]
fn rows_that_a_reader_shares_are_taken_once_and_in_order() {
    let mut buffer = RowBuffer::new();
    for offset in 0..3_000 {
        push(&mut buffer, 0, offset);
        if offset % 700 == 0 {
            assert_eq!(buffer.share().unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), offset as usize + 1);
        }
    }
    assert_eq!(buffer.len(), 3_000);
    let batches = buffer.take().unwrap();
    let ids: Vec<String> = batches
        .iter()
        .flat_map(|batch| usage_lake::rows(batch).unwrap())
        .map(|row| row.unwrap().id.to_owned())
        .collect();
    assert_eq!(ids, (0..3_000).map(|offset| id(0, offset)).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_id_is_known_on_its_date_and_the_days_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let lake = restated(folder.path()).await;
    let at = TimeUs(DAY);
    let times = [
        (at, true),
        (at.plus_us(TimeUs::DAY), true),
        (at.plus_us(-TimeUs::DAY), true),
        (at.plus_us(2 * TimeUs::DAY), false),
    ];
    let mut lookups = [1 << 20, SHORT_BYTES, 0].map(|bytes_max| Lookup::new([1, 2], bytes_max));
    for ((time, is_known), lookup) in times.iter().flat_map(|case| [(*case, 0), (*case, 1), (*case, 2)]) {
        let lookup = &mut lookups[lookup];
        let wanted =
            HashMap::from([(name(3), time), (name(100), time), (name(500), time), (("x".into(), id(0, 3)), time)]);
        let expected = if is_known { [name(3), name(100)].into() } else { HashSet::new() };
        assert_eq!(lookup.known(&lake.files(), &wanted).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_reversal_that_is_not_the_negation_of_a_row_is_found() {
    // 6 is not what 5 holds; 5 is taken back twice; 300 is not there.
    for (pushed, expected) in [
        (vec![(100, 5, Some(5), false)], None),
        (
            vec![(100, 5, Some(5), false), (101, 5, Some(5), false)],
            Some(Finding::ReversedTwice { partition: 0, offset: 101 }),
        ),
        (vec![(100, 300, Some(300), false)], Some(Finding::WrongReversal { partition: 0, offset: 100 })),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut lake = open(folder.path()).await;
        lake.commit(unit(0, 0..100)).await.unwrap();
        let mut buffer = RowBuffer::new();
        pushed.iter().for_each(|(offset, original, reverses, amends)| {
            correct(&mut buffer, *offset, *original, *reverses, *amends)
        });
        lake.commit(unit_of(buffer, 100..100 + pushed.len() as i64)).await.unwrap();
        assert_eq!(verify(&lake).await.unwrap().findings, expected.into_iter().collect::<Vec<_>>());
    }
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    lake.commit(unit(0, 0..100)).await.unwrap();
    let mut buffer = RowBuffer::new();
    let (six, own, five) = (event(0, 6), id(0, 100), id(0, 5));
    let (time, position) = (event(0, 5).time, position(0, 100));
    let row = RowRef {
        event: &six,
        time,
        cost: cost(5),
        unpriced_reason: None,
        position,
        late: true,
        clamped: false,
        id: &own,
        kind: RowKind::Reversal,
        corrects: Some(&five),
        reverses: Some(&five),
    };
    buffer.push(row).unwrap();
    lake.commit(unit_of(buffer, 100..101)).await.unwrap();
    let findings = verify(&lake).await.unwrap().findings;
    assert_eq!(findings, [Finding::WrongReversal { partition: 0, offset: 100 }]);
}

#[tokio::test]
async fn an_offset_has_two_rows_only_where_one_replaces_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    lake.commit(unit(0, 0..100)).await.unwrap();
    let mut buffer = RowBuffer::new();
    correct(&mut buffer, 100, 5, Some(5), true);
    let mut too_many = unit_of(buffer, 100..101);
    too_many.ranges[0].accepted = 2;
    assert!(matches!(lake.commit(too_many.clone()).await, Err(LakeError::BadUnit(_))), "two rows are one event");
    too_many.ranges[0].accepted = 2;
    too_many.rows.extend(rows(0, 100..101));
    lake.commit(too_many).await.unwrap();
    let findings = verify(&lake).await.unwrap().findings;
    assert!(findings.contains(&Finding::DuplicateOffset { table: "usage", partition: 0, offset: 100 }), "{findings:?}");
}

/// Takes the columns that came later out of every file and of the table's log: a lake as the first version wrote it.
fn downgrade(folder: &Path) {
    const LATER: [&str; 8] =
        ["service_tier", "kind", "corrects", "reverses", "images", "unpriced_reason", "processed", "total"];
    let table = folder.join("usage");
    let entries = std::fs::read_dir(table.join("_delta_log")).unwrap().map(|entry| entry.unwrap().path());
    for entry in entries.filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        let text = std::fs::read_to_string(&entry).unwrap();
        let lines = text.lines().map(|line| {
            let mut action: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(add) = action.get_mut("add") {
                let path = table.join(add["path"].as_str().unwrap());
                without_columns(&path, &LATER);
                add["size"] = std::fs::metadata(&path).unwrap().len().into();
            }
            if let Some(metadata) = action.get_mut("metaData") {
                let mut schema: serde_json::Value =
                    serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
                let fields = schema["fields"].as_array_mut().unwrap();
                fields.retain(|field| !LATER.contains(&field["name"].as_str().unwrap()));
                metadata["schemaString"] = schema.to_string().into();
            }
            action.to_string()
        });
        let lines: Vec<String> = lines.collect();
        std::fs::write(&entry, lines.join("\n")).unwrap();
    }
}

fn without_columns(path: &Path, names: &[&str]) {
    use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};
    let file = std::fs::File::open(path).unwrap();
    let batches: Vec<_> =
        ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(Result::unwrap).collect();
    let kept: Vec<usize> = (0..batches[0].num_columns())
        .filter(|at| !names.contains(&batches[0].schema().field(*at).name().as_str()))
        .collect();
    assert_eq!(kept.len() + names.len(), batches[0].num_columns());
    let schema = batches[0].project(&kept).unwrap().schema();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), schema, None).unwrap();
    batches.iter().for_each(|batch| writer.write(&batch.project(&kept).unwrap()).unwrap());
    writer.close().unwrap();
}

#[tokio::test]
async fn a_lake_of_the_first_version_opens_and_its_rows_are_usage() {
    let folder = tempfile::tempdir().unwrap();
    let mut lake = open(folder.path()).await;
    lake.commit(unit(0, 0..100)).await.unwrap();
    drop(lake);
    downgrade(folder.path());

    // Who only reads leaves it as it is.
    let lake = Lake::open_existing(folder.path().to_str().unwrap()).await.unwrap();
    assert_eq!((lake.version(), verify(&lake).await.unwrap().findings), (1, vec![]));
    drop(lake);
    let mut lake = open(folder.path()).await;
    assert_eq!(lake.version(), 2, "the columns are added in one entry of the log");
    let mut buffer = RowBuffer::new();
    correct(&mut buffer, 100, 5, Some(5), true);
    lake.commit(unit_of(buffer, 100..101)).await.unwrap();
    assert_eq!(verify(&lake).await.unwrap().findings, []);

    let batches: Vec<_> = lake.replay(ReplayFrom::default(), ReplayColumns::All).try_collect().await.unwrap();
    let rows: Vec<_> = batches.iter().flat_map(|batch| usage_lake::rows(batch).unwrap().map(Result::unwrap)).collect();
    assert_eq!(rows.len(), 102);
    assert!(
        rows.iter().filter(|row| row.position.offset < 100).all(|row| row.kind == RowKind::Usage && row.images == 0)
    );
    assert_eq!(rows.iter().find(|row| row.id == id(0, 7)).unwrap().tokens, event(0, 7).tokens);
    let found = sql(
        &lake,
        "select kind, count(*) as n, count(service_tier) as tiers, count(unpriced_reason) as reasons, sum(images) as images from usage where kind <> 'x' group by kind order by kind",
    )
    .await;
    // Only what this version wrote, the amendment, says why it has no price.
    let kind = |kind: &str, n: u64, reasons: u64| serde_json::json!({"kind": kind, "n": n, "tiers": 0, "reasons": reasons, "images": 0});
    assert_eq!(found, serde_json::json!([kind("amendment", 1, 1), kind("reversal", 1, 0), kind("usage", 100, 0)]));
    // Again: nothing is left to add.
    drop(lake);
    assert_eq!(open(folder.path()).await.version(), 3);
}
