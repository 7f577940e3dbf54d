//! How far a job has come is told with what stops it.

mod common;

use budget_core::{BalanceFilter, Core, CoreConfig, Effects};
use common::{Record, apply, budget, set_fresh};
use usage_types::{Dimension, Progress, Role, TimeUs};

const NOW: TimeUs = TimeUs(1_795_219_200_000_000);

fn at(minutes: i64) -> TimeUs {
    NOW.plus_us(minutes * TimeUs::MINUTE)
}

/// An event of 100 tokens.
fn event(id: &str, namespace: &'static str, job: &'static str, minutes: i64, processed: Option<(u64, u64)>) -> Record {
    let mut record = Record::new(id, at(minutes), &[(Dimension::Namespace, namespace), (Dimension::Job, job)], 100);
    record.event.progress = processed.map(|(processed, total)| Progress { processed, total: Some(total) });
    record
}

fn progress(processed: u64, total: u64) -> Option<Progress> {
    Some(Progress { processed, total: Some(total) })
}

/// 300 tokens for each job; alerts at 80 % and 100 %.
fn core(per: &[Dimension]) -> Core {
    let mut core = Core::new(CoreConfig { tracked: Vec::new(), ..CoreConfig::default() });
    set_fresh(&mut core, [budget("jobs", &[], per, 300)], NOW);
    core
}

/// What decisions and alerts say of it.
fn said(effects: &Effects) -> (Vec<Option<Progress>>, Vec<Option<Progress>>) {
    (effects.decisions.iter().map(|d| d.progress).collect(), effects.alerts.iter().map(|a| a.progress).collect())
}

#[test]
fn the_decision_and_the_alert_that_stop_a_job_say_how_far_it_has_come() {
    let mut core = core(&[Dimension::Namespace, Dimension::Job]);
    apply(&mut core, &[event("1", "a", "j", 0, Some((10, 1000))), event("2", "a", "j", 1, None)]);
    assert!(core.effects(at(1)).is_empty());
    apply(&mut core, &[event("3", "a", "j", 2, Some((700, 1000))), event("4", "b", "j", 2, Some((5, 50)))]);
    let effects = core.effects(at(2));
    assert_eq!(said(&effects), (vec![progress(700, 1000)], vec![progress(700, 1000); 2]));
    let kept: Vec<_> = core.decisions().map(|decision| decision.progress).collect();
    assert_eq!(kept, [progress(700, 1000)], "it is kept with the decision");
    // What allows again does not say it.
    set_fresh(&mut core, [budget("jobs", &[], &[Dimension::Namespace, Dimension::Job], 1000)], at(3));
    assert_eq!(said(&core.effects(at(3))), (vec![None], vec![]));
    let page = core.balances(&BalanceFilter::default(), None, 10);
    let mut rows: Vec<_> = page.rows.iter().map(|row| (row.scope.to_string(), row.progress)).collect();
    rows.sort();
    assert_eq!(
        rows,
        [("namespace=a,job=j".to_owned(), progress(700, 1000)), ("namespace=b,job=j".to_owned(), progress(5, 50))]
    );
}

#[test]
fn the_latest_event_by_its_time_says_it_whatever_the_order_of_the_log() {
    let mut core = core(&[Dimension::Job]);
    let late = event("2", "a", "j", 1, Some((10, 1000))).appended(at(6));
    let other = event("3", "b", "j", 4, Some((5, 6)));
    apply(&mut core, &[event("1", "a", "j", 5, Some((600, 1000))), late, other]);
    // A budget of jobs whatever their namespace has the latest of all of that name.
    assert_eq!(said(&core.effects(at(6))), (vec![progress(600, 1000)], vec![progress(600, 1000); 2]));
}

#[test]
fn a_restart_finds_how_far_a_job_has_come_in_the_rows() {
    let records = [
        event("1", "a", "j", 0, Some((10, 1000))),
        event("2", "a", "j", 2, Some((400, 1000))),
        event("3", "a", "j", 1, Some((200, 1000))),
    ];
    let told = |mut core: Core| said(&core.effects(at(3)));
    let mut before = core(&[Dimension::Job]);
    apply(&mut before, &records);
    let mut after = core(&[Dimension::Job]);
    records.iter().rev().for_each(|record| after.restore(&record.row(record.event.time)));
    let expected = (vec![progress(400, 1000)], vec![progress(400, 1000); 2]);
    assert_eq!((told(before), told(after)), (expected.clone(), expected));
}

#[test]
fn a_row_that_takes_another_back_says_nothing_and_old_jobs_are_forgotten() {
    let mut core = core(&[Dimension::Job]);
    let mut reversal = event("1", "a", "j", 5, Some((900, 1000)));
    reversal.reversal = true;
    core.restore(&event("1", "a", "j", 0, Some((10, 1000))).row(at(0)));
    core.restore(&reversal.row(at(5)));
    let day = 24 * 60;
    core.evict(at(10));
    let of_the_job = |core: &Core| core.balances(&BalanceFilter::default(), None, 10).rows[0].progress;
    apply(&mut core, &[event("2", "a", "j", 10, None)]);
    assert_eq!(of_the_job(&core), progress(10, 1000));
    core.evict(at(day + 1));
    apply(
        &mut core,
        &[event("3", "a", "j", day, None), event("4", "a", "j", 0, Some((11, 1000))).role(Role::Backfill)],
    );
    assert!(core.balances(&BalanceFilter::default(), None, 10).rows.iter().all(|row| row.progress.is_none()));
}
