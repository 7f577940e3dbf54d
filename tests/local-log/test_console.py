"""Programs that people use by hand: Kafka's own console tools (the Java client) and kcat."""

import os
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.timeout(900)
KAFKA_SH = os.environ.get("KAFKA_SH")
LINES = [f"k{number % 50}:message {number}" for number in range(2000)]
MESSAGES = sorted(line.split(":")[1] for line in LINES)


def run(*command, given=""):
    done = subprocess.run(command, input=given, stdout=subprocess.PIPE, text=True, timeout=300, check=True)
    return done.stdout.splitlines()


@pytest.mark.skipif(not KAFKA_SH, reason="KAFKA_SH does not name scripts/kafka.sh")
@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_java_console_tools(bootstrap, name, codec):
    tools = "org.apache.kafka.tools"
    at = ("--bootstrap-server", bootstrap)
    run(KAFKA_SH, "run", f"{tools}.TopicCommand", *at, "--create", "--topic", name, "--partitions", "3")
    run(
        KAFKA_SH, "run", f"{tools}.ConsoleProducer", *at, "--topic", name, "--compression-codec", codec,
        "--reader-property", "parse.key=true", "--reader-property", "key.separator=:",
        given="\n".join(LINES),
    )  # fmt: skip
    read = run(
        KAFKA_SH, "run", f"{tools}.consumer.ConsoleConsumer", *at, "--topic", name, "--group", name,
        "--from-beginning", "--max-messages", "2000", "--timeout-ms", "120000",
    )  # fmt: skip
    assert sorted(read) == MESSAGES
    group = run(KAFKA_SH, "run", f"{tools}.consumer.group.ConsumerGroupCommand", *at, "--describe", "--group", name)
    lags = [line.split()[5] for line in group if line.startswith(name)]
    assert lags == ["0"] * 3, group


@pytest.mark.skipif(not shutil.which("kcat"), reason="kcat is not installed")
@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_kcat(bootstrap, name, codec):
    run("kcat", "-b", bootstrap, "-P", "-t", name, "-K:", "-z", codec, given="\n".join(LINES))
    assert sorted(run("kcat", "-b", bootstrap, "-C", "-t", name, "-e", "-q", "-o", "beginning")) == MESSAGES
    assert any(f'topic "{name}" with 8 partitions' in line for line in run("kcat", "-b", bootstrap, "-L"))
    in_group = run("kcat", "-b", bootstrap, "-G", name, name, "-c", "2000", "-q", "-X", "auto.offset.reset=earliest")
    assert sorted(in_group) == MESSAGES
