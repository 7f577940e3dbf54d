//! The rules of a group, with the time in the test's hands.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::member::{Caller, JoinReply, JoinRequest, SyncReply, SyncRequest};
use super::state::{Group, State};

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);

/// A group and a clock that only the test moves.
struct Bench {
    group: Group,
    now: Instant,
}

type Joining = oneshot::Receiver<JoinReply>;
type Syncing = oneshot::Receiver<SyncReply>;

impl Bench {
    fn new() -> Self {
        Self { group: Group::new("g".to_owned(), Duration::ZERO), now: Instant::now() }
    }

    fn join_as(&mut self, member_id: &str, change: impl FnOnce(&mut JoinRequest)) -> Joining {
        let mut request = JoinRequest {
            member_id: member_id.to_owned(),
            instance_id: None,
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), Bytes::from_static(b"topics"))],
            requires_known_id: false,
            understands_skip: true,
        };
        change(&mut request);
        let (reply, answer) = oneshot::channel();
        self.group.join(self.now, request, reply);
        answer
    }

    fn join(&mut self, member_id: &str) -> Joining {
        self.join_as(member_id, |_| {})
    }

    fn sync(&mut self, joined: &JoinReply, assignments: &[(&str, &'static str)]) -> Syncing {
        let assigned = |(id, part): &(&str, &'static str)| ((*id).to_owned(), Bytes::from_static(part.as_bytes()));
        let request = SyncRequest {
            caller: caller(joined),
            protocol_type: None,
            protocol: None,
            assignments: assignments.iter().map(assigned).collect(),
        };
        let (reply, answer) = oneshot::channel();
        self.group.sync(self.now, request, reply);
        answer
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.group.tick(self.now);
    }

    /// A stable group of two; the first leads.
    fn two(&mut self) -> (JoinReply, JoinReply) {
        let first = got(self.join(""));
        let second = self.join("");
        let first = got(self.join(&first.member_id));
        let second = got(second);
        let assignments = [(&*first.member_id, "0"), (&*second.member_id, "1")];
        let second_syncs = self.sync(&second, &[]);
        assert_eq!(got(self.sync(&first, &assignments)).assignment, "0");
        assert_eq!(got(second_syncs).assignment, "1");
        assert_eq!(self.group.state(), State::Stable);
        (first, second)
    }
}

fn got<T>(mut answer: oneshot::Receiver<T>) -> T {
    answer.try_recv().expect("it is answered at once")
}

fn waits<T>(answer: &mut oneshot::Receiver<T>) -> bool {
    answer.try_recv().is_err()
}

fn caller(joined: &JoinReply) -> Caller {
    Caller { member_id: joined.member_id.clone(), instance_id: None, generation: joined.generation }
}

#[test]
fn the_leader_alone_learns_the_members_and_hands_out_the_parts() {
    let mut bench = Bench::new();
    let (first, second) = bench.two();
    assert_eq!((first.generation, second.generation), (2, 2));
    assert_eq!((&first.leader, &second.leader), (&first.member_id, &first.member_id));
    assert_eq!((first.members.len(), second.members.len()), (2, 0));
}

#[test]
fn a_new_dynamic_member_comes_back_with_its_id_or_is_forgotten() {
    let mut bench = Bench::new();
    let told = got(bench.join_as("", |request| request.requires_known_id = true));
    assert_eq!(told.error, Some(ResponseError::MemberIdRequired));
    assert!(!bench.group.is_idle());
    bench.pass(SESSION);
    assert!(bench.group.is_idle());
    assert_eq!(got(bench.join(&told.member_id)).error, Some(ResponseError::UnknownMemberId));

    let told = got(bench.join_as("", |request| request.requires_known_id = true));
    assert_eq!(got(bench.join(&told.member_id)).error, None);
}

#[test]
fn a_silent_member_is_removed_and_its_parts_go_to_the_rest() {
    let mut bench = Bench::new();
    let (first, second) = bench.two();
    bench.pass(SESSION / 2);
    assert_eq!(bench.group.heartbeat(bench.now, &caller(&first)), Ok(()));
    bench.pass(SESSION / 2);
    assert_eq!(bench.group.heartbeat(bench.now, &caller(&first)), Err(ResponseError::RebalanceInProgress));
    assert_eq!(bench.group.heartbeat(bench.now, &caller(&second)), Err(ResponseError::UnknownMemberId));
    let alone = got(bench.join(&first.member_id));
    assert_eq!((alone.generation, alone.members.len()), (3, 1));
}

#[test]
fn deadlines_are_announced_so_that_the_timer_wakes_for_them() {
    let mut bench = Bench::new();
    assert_eq!(bench.group.next_deadline(), None);
    bench.two();
    assert_eq!(bench.group.next_deadline(), Some(bench.now + SESSION));
}

#[test]
fn a_rebalance_does_not_wait_for_a_member_beyond_its_timeout() {
    let mut bench = Bench::new();
    let (first, second) = bench.two();
    let mut third = bench.join("");
    let mut again = bench.join(&first.member_id);
    assert!(waits(&mut third) && waits(&mut again), "the second has not joined yet");
    // It keeps its session alive, but does not join.
    for _ in 0..REBALANCE.as_secs() / 5 - 1 {
        bench.pass(Duration::from_secs(5));
        assert_eq!(bench.group.heartbeat(bench.now, &caller(&second)), Err(ResponseError::RebalanceInProgress));
    }
    assert!(waits(&mut third));
    bench.pass(Duration::from_secs(5));
    assert_eq!(got(again).members.len(), 2);
    assert_eq!(got(third).error, None);
    assert_eq!(bench.group.heartbeat(bench.now, &caller(&second)), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_leader_that_never_assigns_is_replaced() {
    let mut bench = Bench::new();
    let first = got(bench.join(""));
    let second = bench.join("");
    let first = got(bench.join(&first.member_id));
    let second = got(second);
    let waiting = bench.sync(&second, &[]);
    bench.pass(SESSION);
    assert_eq!(got(waiting).error, Some(ResponseError::RebalanceInProgress));
    let next = got(bench.join(&second.member_id));
    assert_eq!(next.leader, second.member_id);
    assert_eq!(bench.group.heartbeat(bench.now, &caller(&first)), Err(ResponseError::UnknownMemberId));
}

#[test]
fn leaving_starts_a_rebalance_and_the_last_one_empties_the_group() {
    let mut bench = Bench::new();
    let (first, second) = bench.two();
    assert_eq!(bench.group.leave(bench.now, &second.member_id, None), Ok(()));
    assert_eq!(bench.group.heartbeat(bench.now, &caller(&first)), Err(ResponseError::RebalanceInProgress));
    assert_eq!(bench.group.leave(bench.now, &first.member_id, None), Ok(()));
    assert_eq!(bench.group.state(), State::Empty);
    assert_eq!(bench.group.leave(bench.now, &first.member_id, None), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_static_member_that_restarts_gets_its_part_back_and_fences_its_former_self() {
    let mut bench = Bench::new();
    let fixed = |request: &mut JoinRequest| request.instance_id = Some("one".to_owned());
    let before = got(bench.join_as("", fixed));
    let mut as_member = caller(&before);
    as_member.instance_id = Some("one".to_owned());
    assert_eq!(got(bench.sync(&before, &[(&before.member_id, "all")])).assignment, "all");
    let after = got(bench.join_as("", fixed));
    assert_eq!((after.error, after.generation), (None, before.generation));
    assert_ne!(after.member_id, before.member_id);
    assert!(after.skip_assignment, "it leads, but everybody keeps what they have");
    assert_eq!(got(bench.sync(&after, &[])).assignment, "all");
    assert_eq!(bench.group.heartbeat(bench.now, &as_member), Err(ResponseError::FencedInstanceId));
}

#[test]
fn members_must_have_a_strategy_in_common_and_the_most_wanted_one_wins() {
    let mut bench = Bench::new();
    let with = |names: &'static [&'static str]| {
        move |request: &mut JoinRequest| {
            request.protocols = names.iter().map(|name| ((*name).to_owned(), Bytes::new())).collect();
        }
    };
    let first = got(bench.join_as("", with(&["range", "sticky"])));
    let other = got(bench.join_as("", with(&["roundrobin"])));
    assert_eq!(other.error, Some(ResponseError::InconsistentGroupProtocol));
    let second = bench.join_as("", with(&["sticky", "range"]));
    let third = bench.join_as("", with(&["sticky", "range"]));
    got(bench.join_as(&first.member_id, with(&["range", "sticky"])));
    assert_eq!(got(second).protocol.as_deref(), Some("sticky"));
    assert_eq!(got(third).protocol.as_deref(), Some("sticky"));
}

#[test]
fn commits_are_taken_from_current_members_only() {
    let mut bench = Bench::new();
    let outside = Caller { member_id: String::new(), instance_id: None, generation: -1 };
    assert_eq!(bench.group.check_commit(bench.now, &outside), Ok(()));
    let (first, _) = bench.two();
    assert_eq!(bench.group.check_commit(bench.now, &outside), Err(ResponseError::UnknownMemberId));
    assert_eq!(bench.group.check_commit(bench.now, &caller(&first)), Ok(()));
    let mut late = caller(&first);
    late.generation -= 1;
    assert_eq!(bench.group.check_commit(bench.now, &late), Err(ResponseError::IllegalGeneration));
    bench.join("");
    assert_eq!(bench.group.check_commit(bench.now, &caller(&first)), Ok(()), "to commit before joining again");
}
