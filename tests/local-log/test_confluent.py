"""librdkafka through confluent-kafka: what ordinary programs do with a broker, feature by feature."""

import threading
import time

import pytest
from conftest import PATIENCE_S, eventually
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def admin(bootstrap):
    return AdminClient({"bootstrap.servers": bootstrap})


@pytest.fixture
def topic(admin, name):
    create(admin, name, 3)
    return name


def create(admin, name, partitions, **config):
    config = {key.replace("_", "."): value for key, value in config.items()}
    admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result()


def producer(bootstrap, **config):
    return Producer({"bootstrap.servers": bootstrap, "linger.ms": 2, "message.timeout.ms": 60000, **config})


def consumer(bootstrap, group, **config):
    defaults = {"auto.offset.reset": "earliest", "enable.auto.commit": False, "session.timeout.ms": 30000}
    return Consumer({"bootstrap.servers": bootstrap, "group.id": group, **defaults, **config})


def send(client, topic, messages):
    """Sends and returns (partition, offset) of each; fails on the first delivery error."""
    delivered = []

    def report(error, message):
        delivered.append(error or (message.partition(), message.offset()))

    for message in messages:
        client.produce(topic, on_delivery=report, **message)
        client.poll(0)
    assert client.flush(PATIENCE_S) == 0
    errors = [item for item in delivered if isinstance(item, KafkaError)]
    if errors:
        raise KafkaException(errors[0])
    return delivered


def receive(client, count, patience_s=PATIENCE_S):
    messages, deadline = [], time.monotonic() + patience_s
    while len(messages) < count and time.monotonic() < deadline:
        for message in client.consume(count - len(messages), 0.2):
            if not message.error():
                messages.append(message)
            elif message.error().code() != KafkaError._PARTITION_EOF:
                raise KafkaException(message.error())
    return messages


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("idempotent", [False, True])
def test_everything_sent_comes_back_in_order(bootstrap, topic, codec, idempotent):
    client = producer(bootstrap, **{"compression.type": codec, "enable.idempotence": idempotent})
    values = [f"{number} {'abc' * 50}".encode() for number in range(2000)]
    send(client, topic, [{"key": value[-9:] + value[:1], "value": value} for value in values])
    with_group = consumer(bootstrap, topic, **{"check.crcs": True})
    with_group.subscribe([topic])
    messages = receive(with_group, len(values))
    with_group.close()
    assert sorted(message.value() for message in messages) == sorted(values)
    for partition in range(3):
        of_partition = [message for message in messages if message.partition() == partition]
        assert [message.offset() for message in of_partition] == list(range(len(of_partition)))
        numbers = [int(message.value().split()[0]) for message in of_partition]
        assert numbers == sorted(numbers)


def test_headers_nulls_and_times_are_kept(bootstrap, topic):
    headers = [("a", b"1"), ("none", None), ("a", b"\x00\xff")]
    send(producer(bootstrap), topic, [
        {"key": b"k", "value": None, "headers": headers, "timestamp": 1700000000123, "partition": 0},
        {"value": b"", "headers": [("empty", b"")], "partition": 0},
    ])
    client = consumer(bootstrap, topic)
    client.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    first, second = receive(client, 2)
    client.close()
    assert (first.value(), first.headers(), first.timestamp()[1]) == (None, headers, 1700000000123)
    assert (second.key(), second.value(), second.headers()) == (None, b"", [("empty", b"")])


def test_offsets_by_time_by_end_and_out_of_range(bootstrap, topic):
    # One batch, so that the answer lies inside of it.
    batch = [{"value": str(at).encode(), "timestamp": 1700000000000 + 1000 * at, "partition": 1} for at in range(10)]
    send(producer(bootstrap, **{"linger.ms": 300}), topic, batch)
    client = consumer(bootstrap, topic)
    for timestamp, expected in [(0, 0), (1700000005000, 5), (1700000005001, 6), (1700000009001, -1)]:
        found = client.offsets_for_times([TopicPartition(topic, 1, timestamp)], timeout=PATIENCE_S)[0].offset
        assert found in (expected, 10 if expected == -1 else expected), timestamp
    assert client.get_watermark_offsets(TopicPartition(topic, 1), timeout=PATIENCE_S) == (0, 10)
    client.assign([TopicPartition(topic, 1, 7)])
    assert [message.value() for message in receive(client, 3)] == [b"7", b"8", b"9"]
    client.assign([TopicPartition(topic, 1, 5000)])
    assert len(receive(client, 10)) == 10, "out of range starts over, as auto.offset.reset says"
    client.close()


def test_a_group_resumes_where_it_committed(bootstrap, topic):
    send(producer(bootstrap), topic, [{"value": str(number).encode(), "partition": number % 3} for number in range(300)])
    first = consumer(bootstrap, topic)
    first.subscribe([topic])
    seen = {(message.partition(), message.offset()) for message in receive(first, 120)}
    first.commit(asynchronous=False)
    first.close()
    second = consumer(bootstrap, topic)
    second.subscribe([topic])
    rest = {(message.partition(), message.offset()) for message in receive(second, 180)}
    assert not seen & rest and len(seen | rest) == 300
    assert receive(second, 1, patience_s=1) == []
    second.close()


def test_commits_keep_their_metadata(bootstrap, topic):
    client = consumer(bootstrap, topic)
    client.commit(offsets=[TopicPartition(topic, 0, 17, metadata="why")], asynchronous=False)
    committed = client.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=PATIENCE_S)
    client.close()
    assert [(part.offset, part.metadata) for part in committed][0] == (17, "why")
    assert committed[1].offset < 0


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_three_members_share_the_partitions_and_miss_nothing(bootstrap, admin, name, strategy):
    create(admin, name, 6)
    stops, assigned, read = {}, {}, []

    def run(member):
        config = {"partition.assignment.strategy": strategy, "heartbeat.interval.ms": 300, "enable.auto.commit": True}
        client = consumer(bootstrap, name, **config)
        client.subscribe([name])
        while not stops[member].is_set():
            message = client.poll(0.05)
            assigned[member] = {part.partition for part in client.assignment()}
            if message and not message.error():
                read.append((message.partition(), message.offset()))
        client.close()
        assigned[member] = set()

    def shared_by(*members):
        parts = [assigned.get(member, set()) for member in members]
        even = all(len(part) == 6 // len(members) for part in parts)
        return even and set().union(*parts) == set(range(6))

    def start(member):
        stops[member] = threading.Event()
        thread = threading.Thread(target=run, args=(member,))
        thread.start()
        return thread

    sender, sending, sent = producer(bootstrap), threading.Event(), [0]

    def send_on():
        while not sending.is_set():
            sender.produce(name, str(sent[0]).encode(), partition=sent[0] % 6)
            sent[0] += 1
            sender.poll(0.005)

    threads = [threading.Thread(target=send_on)]
    threads[0].start()
    try:
        for members in (["a"], ["a", "b"], ["a", "b", "c"]):
            threads.append(start(members[-1]))
            eventually(f"{members} share", lambda m=members: shared_by(*m))
        stops["b"].set()
        eventually("the rest take over", lambda: shared_by("a", "c"))
        sending.set()
        threads[0].join()
        assert sender.flush(PATIENCE_S) == 0
        eventually("all is read", lambda: len(set(read)) == sent[0])
    finally:
        sending.set()
        for stop in stops.values():
            stop.set()
        for thread in threads:
            thread.join()
    assert len(read) == len(set(read)), "nothing twice"


def test_a_static_member_comes_back_to_its_partitions_without_a_rebalance(bootstrap, topic):
    other = consumer(bootstrap, topic, **{"group.instance.id": "other"})
    revoked = []
    other.subscribe([topic], on_revoke=lambda client, parts: revoked.append(parts))
    for round_ in range(3):
        mine = consumer(bootstrap, topic, **{"group.instance.id": "mine"})
        mine.subscribe([topic])

        def both_assigned():
            other.poll(0.05)
            mine.poll(0.05)
            return mine.assignment() and len(mine.assignment()) + len(other.assignment()) == 3

        eventually("both are assigned", both_assigned)
        if round_ == 0:
            revoked.clear()
        mine.close()
    assert not revoked, "a static member that restarts disturbs nobody"
    other.close()


def test_a_member_that_dies_is_replaced(bootstrap, topic):
    import subprocess
    import sys

    script = (
        "import sys; from confluent_kafka import Consumer\n"
        "c = Consumer({'bootstrap.servers': sys.argv[1], 'group.id': sys.argv[2], 'session.timeout.ms': 6000})\n"
        "c.subscribe([sys.argv[2]])\n"
        "while not c.assignment(): c.poll(0.1)\n"
        "print('assigned', flush=True)\n"
        "while True: c.poll(0.1)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, bootstrap, topic], stdout=subprocess.PIPE)
    child.stdout.readline()
    client = consumer(bootstrap, topic)
    client.subscribe([topic])

    def assigned():
        client.poll(0.05)
        return len(client.assignment())

    eventually("they share", lambda: 0 < assigned() < 3)
    child.kill()
    child.wait()
    eventually("the survivor has all", lambda: assigned() == 3)
    client.close()


def test_topics_are_described_altered_grown_and_deleted(bootstrap, admin, name):
    create(admin, name, 1, retention_ms="60000", cleanup_policy="delete")
    with pytest.raises(KafkaException) as refused:
        create(admin, name, 1)
    assert refused.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    with pytest.raises(KafkaException) as refused:
        create(admin, name + "x", 1, no_such_setting="1")
    assert refused.value.args[0].code() == KafkaError.INVALID_CONFIG
    entry = ConfigEntry("retention.ms", "12345", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result()
    resource = ConfigResource(ResourceType.TOPIC, name)
    described = admin.describe_configs([resource])[resource].result()
    assert (described["retention.ms"].value, described["cleanup.policy"].value) == ("12345", "delete")
    admin.create_partitions([NewPartitions(name, 4)])[name].result()
    assert len(admin.list_topics(name, timeout=PATIENCE_S).topics[name].partitions) == 4
    send(producer(bootstrap), name, [{"value": b"x", "partition": 3}] * 10)
    for future in admin.delete_records([TopicPartition(name, 3, 4)]).values():
        future.result()
    client = consumer(bootstrap, name)
    assert client.get_watermark_offsets(TopicPartition(name, 3), timeout=PATIENCE_S) == (4, 10)
    client.close()
    admin.delete_topics([name])[name].result()
    assert name not in admin.list_topics(timeout=PATIENCE_S).topics
    create(admin, name, 1)
    send(producer(bootstrap), name, [{"value": b"new"}])
    client = consumer(bootstrap, name)
    client.assign([TopicPartition(name, 0, OFFSET_BEGINNING)])
    assert [message.value() for message in receive(client, 1)] == [b"new"]
    client.close()


def test_groups_are_listed_described_and_deleted(bootstrap, admin, topic):
    send(producer(bootstrap), topic, [{"value": b"x", "partition": 0}])
    client = consumer(bootstrap, topic)
    client.subscribe([topic])
    receive(client, 1)
    client.commit(asynchronous=False)
    listed = {group.group_id: group for group in admin.list_consumer_groups().result().valid}
    assert topic in listed
    described = admin.describe_consumer_groups([topic])[topic].result()
    assert described.state.name == "STABLE" and len(described.members) == 1
    assert {part.partition for part in described.members[0].assignment.topic_partitions} == {0, 1, 2}
    offsets = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(topic)])[topic].result()
    assert {part.partition: part.offset for part in offsets.topic_partitions}[0] == 1
    with pytest.raises(KafkaException) as refused:
        admin.delete_consumer_groups([topic])[topic].result()
    assert refused.value.args[0].code() == KafkaError.NON_EMPTY_GROUP
    client.close()
    admin.delete_consumer_groups([topic])[topic].result()
    client = consumer(bootstrap, topic)
    assert client.committed([TopicPartition(topic, 0)], timeout=PATIENCE_S)[0].offset < 0
    client.close()


def test_sizes_are_limited_as_the_topic_says(bootstrap, admin, name):
    create(admin, name, 1, max_message_bytes="10000")
    with pytest.raises(KafkaException) as refused:
        send(producer(bootstrap), name, [{"value": b"x" * 50000}])
    assert refused.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    create(admin, name + "-large", 1)
    send(producer(bootstrap), name + "-large", [{"value": b"x" * 900_000}] * 3)
    client = consumer(bootstrap, name, **{"fetch.message.max.bytes": 1000})
    client.assign([TopicPartition(name + "-large", 0, 0)])
    assert [len(message.value()) for message in receive(client, 3)] == [900_000] * 3
    client.close()


def test_missing_topics_appear_when_used_and_patterns_find_them(bootstrap, admin, name):
    client = consumer(bootstrap, name, **{"topic.metadata.refresh.interval.ms": 500, "enable.auto.commit": True})
    for suffix in ("a", "b"):
        send(producer(bootstrap), f"{name}-{suffix}", [{"value": suffix.encode()}])
        if suffix == "a":
            client.subscribe([f"^{name}-.*"])
        assert [message.value() for message in receive(client, 1)] == [suffix.encode()]
    client.close()
    assert len(admin.list_topics(timeout=PATIENCE_S).topics[f"{name}-a"].partitions) == 8


def test_transactions_are_refused_in_words(bootstrap):
    client = producer(bootstrap, **{"transactional.id": "tx"})
    with pytest.raises(KafkaException) as refused:
        client.init_transactions(PATIENCE_S)
    assert "no transactions" in str(refused.value)
