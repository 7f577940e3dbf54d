#!/usr/bin/env python3
"""Follows the control topic and says who may spend, as docs/decisions.md describes it. For a gateway in Python: take `Decisions` and `follow`.

    pip install confluent-kafka                                  # Python 3.11 or newer
    echo '{"dimensions": {"namespace": "support"}}' | python3 follower.py 127.0.0.1:9092 --fail closed

Each line of standard input is a question with the dimensions of a request (and the time `at` which, where not now), each line of
standard output its answer.
"""

import argparse
import json
import sys
import threading
import time
from datetime import datetime, timezone

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

TOPIC = "usage.decisions"


class Decisions:
    """The last decision of each key. `ready` is set once the topic has been read to the end that it had at the start."""

    def __init__(self):
        self.ready = threading.Event()
        self._lock = threading.Lock()
        self._latest = {}  # by key: the sequence number, and for a block what a request is told and until when
        self._blocks = {}  # by the names of a scope's dimensions, by their values: the keys of blocks and throttles

    def apply(self, key, value):
        """Takes one record, a tombstone where `value` is None. Raises where it is no decision; what was known then stays."""
        if key is None:
            raise ValueError("it has no key")
        decision = read(value) if value is not None else None
        with self._lock:
            before = self._latest.get(key)
            if decision is not None and before is not None and decision["seq"] <= before["seq"]:
                return  # older than what is known, or the same again
            if before is not None and before["restrains"]:
                self._blocks[before["names"]][before["values"]].discard(key)
                if not self._blocks[before["names"]][before["values"]]:
                    del self._blocks[before["names"]][before["values"]]
            if decision is None:
                self._latest.pop(key, None)
                return
            self._latest[key] = decision
            if decision["restrains"]:
                self._blocks.setdefault(decision["names"], {}).setdefault(decision["values"], set()).add(key)

    def check(self, dimensions, now):
        """What is in force for a request with these dimensions: the block that lasts longest, else the slowest throttle (hold requests to its rate),
        or None: it may spend."""
        with self._lock:
            found = []
            for names, by_values in self._blocks.items():
                # A name that the request does not have is None, which is no scope's value.
                for key in by_values.get(tuple(dimensions.get(name) for name in names), ()):
                    decision = self._latest[key]
                    if now < decision["expires_at"]:  # it ends by itself
                        found.append((decision["blocks"], decision["slowness"], decision["expires_at"], key, decision))
            return max(found, key=lambda restraint: restraint[:4])[4] if found else None


def read(value):
    """What is needed of a decision. Members that are not known here are nobody's business: the contract grows by them."""
    decision = json.loads(value)
    names = tuple(sorted(decision["scope"]))
    told = ["state", "http_status", "budget", "reason_code", "expires_at"]
    throttle = decision.get("throttle")
    if throttle is not None:
        told = ["state", "http_status", "budget", "expires_at", "throttle"]
    return {
        "seq": int(decision["seq"]),
        "names": names,
        "values": tuple(decision["scope"][name] for name in names),
        "blocks": decision["state"] == "blocked",
        "restrains": decision["state"] == "blocked" or throttle is not None,
        "slowness": throttle["per_s"] / throttle["requests"] if throttle is not None else 0,
        "expires_at": datetime.fromisoformat(decision["expires_at"]),
        "told": {name: decision[name] for name in told},
    }


def follow(brokers, decisions):
    """Reads the topic for ever."""
    while True:
        try:
            read_topic(brokers, decisions)
        except KafkaException as error:
            print(f"follower: {error}; trying again", file=sys.stderr)
            time.sleep(1)


def read_topic(brokers, decisions):
    consumer = Consumer({
        "bootstrap.servers": brokers,
        "group.id": "follower",  # named because the client wants it; nothing is joined or committed
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "reconnect.backoff.max.ms": 1000,
    })
    try:
        topic = consumer.list_topics(TOPIC, timeout=10).topics[TOPIC]
        if topic.error is not None:
            raise KafkaException(topic.error)
        # Every follower reads all of it: no group shares it out.
        consumer.assign([TopicPartition(TOPIC, partition, OFFSET_BEGINNING) for partition in topic.partitions])
        unread = set(topic.partitions)
        while True:
            record = consumer.poll(1.0)
            if record is None:
                continue
            if record.error() is None:
                try:
                    decisions.apply(record.key(), record.value())
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    print(f"follower: offset {record.offset()} is no decision: {error!r}", file=sys.stderr)
            elif record.error().code() == KafkaError._PARTITION_EOF:
                unread.discard(record.partition())
                if not unread:
                    decisions.ready.set()
            else:
                # The client goes on by itself; until it can, what is known is in force.
                print(f"follower: {record.error()}", file=sys.stderr)
    finally:
        consumer.close()


def answer(decisions, question, fail):
    """What a gateway answers a request."""
    if not decisions.ready.is_set():
        state, status = ("allowed", 200) if fail == "open" else ("blocked", 503)
        return {"state": state, "http_status": status, "reason_code": "NOT_READY"}
    now = datetime.fromisoformat(question["at"]) if "at" in question else datetime.now(timezone.utc)
    restraint = decisions.check(question["dimensions"], now)
    return {"state": "allowed", "http_status": 200} if restraint is None else restraint["told"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("brokers", help="HOST:PORT[,...]")
    arguments.add_argument("--fail", choices=["open", "closed"], default="closed", help="what to answer before the topic was read")
    arguments = arguments.parse_args()
    decisions = Decisions()
    threading.Thread(target=follow, args=(arguments.brokers, decisions), daemon=True).start()
    decisions.ready.wait(timeout=3)  # a gateway would answer at once, by its fail policy
    for line in sys.stdin:
        print(json.dumps(answer(decisions, json.loads(line), arguments.fail)), flush=True)


if __name__ == "__main__":
    main()
