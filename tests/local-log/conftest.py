"""A running log for the tests, and the few helpers that they share."""

import itertools
import os
import pathlib
import socket
import subprocess
import time
import uuid

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = os.environ.get("LOCAL_LOG_BIN", str(TARGET / "debug/examples/local-log"))
PATIENCE_S = 60


def free_port():
    """A port of loopback on which nobody listens, outside of the range from which the system takes ports for connections (to that very port,
    too, while nobody listens there) and for servers that leave the choice to it."""
    last_of_range = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[1])
    low = 61_000 if last_of_range < 61_000 else 5_500
    for step in itertools.count(os.getpid() * 37):
        try:
            with socket.create_server(("127.0.0.1", low + step % 4_500)) as server:
                return server.getsockname()[1]
        except OSError:
            pass


class Log:
    """The example program serving `data`; keeps its port across restarts, as clients expect of a broker."""

    def __init__(self, data, wrapper=()):
        self.data = data
        self.wrapper = list(wrapper)
        self.listen = f"127.0.0.1:{free_port()}"
        self.start()

    def start(self):
        command = [*self.wrapper, BINARY, self.listen, str(self.data)]
        environment = {**os.environ, "RUST_LOG": os.environ.get("RUST_LOG", "warn")}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), line
        self.listen = line.split()[-1]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(PATIENCE_S) == 0


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    running = Log(tmp_path_factory.mktemp("log"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def bootstrap(log):
    return log.listen


@pytest.fixture
def name():
    return f"t-{uuid.uuid4().hex[:10]}"


def eventually(what, done, patience_s=PATIENCE_S):
    """Polls until `done()` gives something true, and returns that."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        result = done()
        if result:
            return result
        time.sleep(0.02)
    pytest.fail(f"not in time: {what}")
