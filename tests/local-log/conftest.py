"""A running log for the tests, and the few helpers that they share."""

import os
import pathlib
import subprocess
import time
import uuid

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = os.environ.get("LOCAL_LOG_BIN", str(TARGET / "debug/examples/local-log"))
PATIENCE_S = 30


class Log:
    """The example program serving `data`; keeps its port across restarts, as clients expect of a broker."""

    def __init__(self, data, wrapper=()):
        self.data = data
        self.wrapper = list(wrapper)
        self.listen = "127.0.0.1:0"
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
