"""kill -9 in mid-produce, and a disk that fills up."""

import os
import shutil
import subprocess
import threading
import time
from collections import defaultdict

import pytest
from conftest import PATIENCE_S, Log, eventually
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

pytestmark = pytest.mark.timeout(900)
PARTITIONS = 3


def read_all(bootstrap, topic, partitions):
    """Values by partition, in order of offsets, which must have no hole."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "check.crcs": True})
    parts = [TopicPartition(topic, part, OFFSET_BEGINNING) for part in range(partitions)]
    left = sum(consumer.get_watermark_offsets(part, timeout=PATIENCE_S)[1] for part in parts)
    consumer.assign(parts)
    values, deadline = defaultdict(list), time.monotonic() + 2 * PATIENCE_S
    while left and time.monotonic() < deadline:
        for message in consumer.consume(5000, 0.5):
            assert message.error() is None, message.error()
            assert message.offset() == len(values[message.partition()])
            values[message.partition()].append(message.value())
            left -= 1
    consumer.close()
    assert left == 0
    return values


@pytest.mark.parametrize("idempotent", [True, False])
def test_acknowledged_records_survive_kill_9(tmp_path, name, idempotent):
    log = Log(tmp_path)
    admin = AdminClient({"bootstrap.servers": log.listen})
    admin.create_topics([NewTopic(name, PARTITIONS, 1, config={"segment.bytes": "500000"})])[name].result()
    acknowledged, stop, sent = {}, threading.Event(), [0]

    def report(error, message):
        if error is None:
            acknowledged[message.value()] = (message.partition(), message.offset())

    def produce():
        settings = {"enable.idempotence": idempotent, "linger.ms": 1, "retry.backoff.ms": 20, "message.timeout.ms": 300000}
        reconnect = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100, "log_level": 0}
        producer = Producer({"bootstrap.servers": log.listen, "acks": "all", **settings, **reconnect})
        while not stop.is_set():
            value = b"%08d %s" % (sent[0], b"x" * 200)
            producer.produce(name, value, partition=sent[0] % PARTITIONS, on_delivery=report)
            sent[0] += 1
            producer.poll(0)
            time.sleep(0.0002)
        assert producer.flush(300) == 0

    thread = threading.Thread(target=produce)
    thread.start()
    for _ in range(5):
        before = len(acknowledged)
        eventually("records are acknowledged", lambda b=before: len(acknowledged) > b + 1000)
        log.kill()
        log.start()
    stop.set()
    thread.join()
    log.kill()
    log.start()
    values = read_all(log.listen, name, PARTITIONS)
    lost = [value for value, (part, offset) in acknowledged.items() if values[part][offset] != value]
    assert not lost and len(acknowledged) == sent[0]
    if idempotent:
        for part in values:
            assert values[part] == sorted(set(values[part])), "in order, and once"
    log.stop()


def namespace_with_a_small_disk(folder):
    """A command prefix under which `folder` is a disk of 8 MiB."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    return [*unshare, "sh", "-c", f'mount -t tmpfs -o size=8m tmpfs {folder} && exec "$@"', "sh"]


def may_mount():
    """Whether this machine lets us have a disk of our own: containers often may not mount."""
    return bool(shutil.which("unshare")) and subprocess.run([*namespace_with_a_small_disk("/mnt"), "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="needs util-linux, and the right to mount")
def test_a_full_disk_is_an_error_and_passes(tmp_path, name):
    log = Log(tmp_path, namespace_with_a_small_disk(tmp_path))
    # The disk as the log sees it; it goes away with the log.
    disk = f"/proc/{log.process.pid}/root{tmp_path}"
    admin = AdminClient({"bootstrap.servers": log.listen})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result()
    ballast = f"{disk}/ballast"
    with open(ballast, "wb") as file:
        file.write(b"\0" * (4 << 20))
    delivered, failed = [], []
    settings = {"message.timeout.ms": 15000, "linger.ms": 0, "batch.num.messages": 1}
    producer = Producer({"bootstrap.servers": log.listen, "enable.idempotence": True, "log_level": 0, **settings})

    def send(number):
        value = b"%08d %s" % (number, b"x" * 100_000)
        producer.produce(name, value, on_delivery=lambda e, m: failed.append(e) if e else delivered.append(m.value()))
        producer.flush(PATIENCE_S)

    for number in range(200):
        send(number)
        if failed:
            break
    assert failed, "8 MiB took more than 20 MB"
    on_disk = read_all(log.listen, name, 1)[0]
    assert on_disk == delivered and len(delivered) > 10, "reads go on, and show what was acknowledged"
    os.remove(ballast)
    # The failed record broke the sequence of this producer; a new one starts afresh.
    producer = Producer({"bootstrap.servers": log.listen, "enable.idempotence": True, **settings})
    failed.clear()
    send(1000)
    send(1001)
    assert not failed, "writes go on when there is space"
    assert read_all(log.listen, name, 1)[0] == delivered
    log.kill()
