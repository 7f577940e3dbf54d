"""Publishes the native events on standard input, one a line, with confluent-kafka's own serializers.

    python produce.py avro|protobuf|json REGISTRY-URL BROKERS TOPIC [CONTENT-TYPE]

Each event goes as the published schema of its format says. `mock://` is the client library's own registry, which only that process knows: Avro
then goes by the schema that counts without a registry.
"""

import importlib
import json
import pathlib
import sys
import tempfile
from datetime import datetime
from decimal import Decimal

from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.serialization import MessageField, SerializationContext

SCHEMAS = pathlib.Path(__file__).resolve().parents[2] / "schemas"


def avro(client):
    from confluent_kafka.schema_registry.avro import AvroSerializer

    def record(event, _):
        event = event | {"time": datetime.fromisoformat(event["time"])}
        if "compute_seconds" in event:
            event["compute_seconds"] = Decimal(event["compute_seconds"])
        if "cost" in event:
            event["cost"] = event["cost"] | {"amount": Decimal(event["cost"]["amount"])}
        return event

    schema = "usage-event.v1-0.avsc" if registry == "mock://" else "usage-event.v1.avsc"
    return AvroSerializer(client, (SCHEMAS / schema).read_text(), record), lambda event: event


def protobuf(client):
    from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
    from google.protobuf.json_format import ParseDict
    from grpc_tools import protoc

    folder = tempfile.mkdtemp()
    well_known = pathlib.Path(protoc.__file__).parent / "_proto"
    args = ["protoc", f"-I{SCHEMAS}", f"-I{well_known}", f"--python_out={folder}", "usage-event.v1.proto"]
    if protoc.main(args) != 0:
        sys.exit("protoc failed")
    sys.path.insert(0, folder)
    message = importlib.import_module("usage_event.v1_pb2").UsageEvent
    return ProtobufSerializer(message, client), lambda event: ParseDict(event, message())


def json_schema(client):
    from confluent_kafka.schema_registry.json_schema import JSONSerializer

    return JSONSerializer((SCHEMAS / "usage-event.v1.json").read_text(), client), lambda event: event


form, registry, brokers, topic, *content_type = sys.argv[1:]
serialize, prepared = {"avro": avro, "protobuf": protobuf, "json": json_schema}[form](SchemaRegistryClient.new_client({"url": registry}))
headers = [("content-type", content_type[0].encode())] if content_type else []
failed = []
producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
for line in sys.stdin:
    value = serialize(prepared(json.loads(line)), SerializationContext(topic, MessageField.VALUE))
    assert value[0] == 0, value
    producer.produce(topic, value, key=b"k", headers=headers, on_delivery=lambda error, _: error and failed.append(error))
sys.exit("not acknowledged" if producer.flush(30) or failed else 0)
