"""The clients written in Python: kafka-python and aiokafka, each with its own reading of the protocol."""

import asyncio

import aiokafka
import kafka
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from conftest import PATIENCE_S
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic

pytestmark = pytest.mark.timeout(300)
CODECS = [None, "gzip"]


@pytest.mark.parametrize("codec", CODECS)
def test_kafka_python_produces_and_consumes_in_a_group(bootstrap, name, codec):
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(name, num_partitions=2, replication_factor=1)])
    producer = kafka.KafkaProducer(bootstrap_servers=bootstrap, compression_type=codec, acks="all")
    sent = [producer.send(name, key=str(at % 5).encode(), value=str(at).encode(), headers=[("at", b"%d" % at)]) for at in range(500)]
    producer.flush(PATIENCE_S)
    offsets = {}
    for future in sent:
        metadata = future.get(timeout=PATIENCE_S)
        assert metadata.offset == offsets.get(metadata.partition, 0)
        offsets[metadata.partition] = metadata.offset + 1
    producer.close()
    settings = {"bootstrap_servers": bootstrap, "group_id": name, "auto_offset_reset": "earliest", "enable_auto_commit": False}
    consumer = kafka.KafkaConsumer(name, consumer_timeout_ms=PATIENCE_S * 1000, **settings)
    values = []
    for record in consumer:
        values.append(int(record.value))
        assert record.headers == [("at", record.value)]
        if len(values) == 500:
            break
    assert sorted(values) == list(range(500))
    consumer.commit()
    consumer.close()
    again = kafka.KafkaConsumer(name, consumer_timeout_ms=1000, **settings)
    assert list(again) == [], "the group committed the end"
    again.close()
    admin.close()


def test_kafka_python_administers(bootstrap, name):
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(name, num_partitions=3, replication_factor=1, topic_configs={"retention.ms": "1000000"})])
    assert name in admin.list_topics()
    described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    assert "1000000" in str(described)
    admin.delete_topics([name])
    assert name not in admin.list_topics()
    admin.close()


def test_aiokafka_produces_and_consumes_in_a_group(bootstrap, name):
    async def run():
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        await admin.create_topics([aiokafka.admin.NewTopic(name, num_partitions=2, replication_factor=1)])
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, compression_type="gzip")
        await producer.start()
        for at in range(200):
            await producer.send(name, str(at).encode(), key=str(at % 7).encode())
        await producer.flush()
        await producer.stop()
        consumers = []
        for _ in range(2):
            consumer = aiokafka.AIOKafkaConsumer(
                name, bootstrap_servers=bootstrap, group_id=name, auto_offset_reset="earliest", enable_auto_commit=False
            )
            await consumer.start()
            consumers.append(consumer)
        values = []
        async with asyncio.timeout(PATIENCE_S):
            while len(set(values)) < 200:
                for consumer in consumers:
                    batches = await consumer.getmany(timeout_ms=100)
                    values += [int(record.value) for records in batches.values() for record in records]
        assert set(values) == set(range(200))
        for consumer in consumers:
            await consumer.commit()
            await consumer.stop()
        groups = [group[0] for group in await admin.list_consumer_groups()]
        assert name in groups
        await admin.delete_topics([name])
        await admin.close()

    asyncio.run(run())


def test_aiokafka_waits_for_what_comes(bootstrap, name):
    async def run():
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap)
        await producer.start()
        await producer.send_and_wait(name, b"first")
        consumer = aiokafka.AIOKafkaConsumer(name, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        async with asyncio.timeout(PATIENCE_S):
            assert (await consumer.getone()).value == b"first"
            waiting = asyncio.create_task(consumer.getone())
            sent = await producer.send_and_wait(name, b"second")
            received = await waiting
        assert (received.value, received.offset, received.partition) == (b"second", sent.offset, sent.partition)
        await consumer.stop()
        await producer.stop()

    asyncio.run(run())
