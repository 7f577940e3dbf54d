"""Publishes one usage event to Kafka: pip install confluent-kafka."""
import json, os, sys, time
from datetime import datetime, timezone
from confluent_kafka import Producer

event = {"id": f"python-{time.time_ns()}", "source": "readme", "time": datetime.now(timezone.utc).isoformat(),
         "namespace": "research", "team": "agents", "model": "gpt-5.1", "provider": "openai", "tokens": {"input": 900, "output": 80}}
producer = Producer({"bootstrap.servers": os.environ.get("OUTLAY_KAFKA", "127.0.0.1:9092")})
producer.produce("usage.events", json.dumps(event), on_delivery=lambda error, record: print(error or f"at {record.partition()}/{record.offset()}"))
sys.exit("not acknowledged" if producer.flush(10) else 0)
