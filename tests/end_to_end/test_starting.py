"""What a user sees when a local run can't start or go on: one sentence, and no traceback."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from infra.stack import ROOT
from tests.end_to_end.running import LocalRun, free_port, user_environment


def start(data: Path, port: int, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.local", "--port", str(port), "--data", str(data)]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=user_environment() | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def processes(running: LocalRun, pattern: str) -> list[int]:
    """Return the ids of the local run's own processes whose command lines begin so."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system doesn't show its processes in /proc")
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    own = {running.pid}
    for _ in range(5):
        own |= {pid for pid, parent in parents.items() if parent in own}
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for pid in sorted(own)}
    return [pid for pid, line in lines.items() if re.match(pattern, line)]


def assert_one_sentence(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    assert ended.returncode == 1
    assert ended.stderr.startswith("make run: ")
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    for word in words:
        assert word in ended.stderr


def test_a_port_in_use_is_said(service: LocalRun, tmp_path: Path) -> None:
    assert_one_sentence(start(tmp_path / "data", service.port), str(service.port), "PORT=")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("port", [0, 70_000])
def test_a_port_that_is_none_is_said(tmp_path: Path, port: int) -> None:
    assert_one_sentence(start(tmp_path / "data", port), str(port), "PORT=")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FETCH_SCHEDULE", "cron(0 * * * ? *)"),
        ("COPILOT_METRICS__GITHUB_API_URL", "http://["),
        ("COPILOT_METRICS__FETCH_CONCURRENCY", "many"),
    ],
)
def test_a_setting_that_cannot_be_used_is_said(tmp_path: Path, name: str, value: str) -> None:
    said = "schedule" if name == "FETCH_SCHEDULE" else name
    assert_one_sentence(start(tmp_path / "data", free_port(), **{name: value}), said)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("path", ["/proc/data", "/dev/null/data", "/" + "long" * 100])
def test_a_data_folder_that_cannot_be_made_is_said(path: str) -> None:
    assert_one_sentence(start(Path(path), free_port()), path)


def test_an_api_that_cannot_start_is_said(tmp_path: Path) -> None:
    ended = start(tmp_path / "data", free_port(), POWERTOOLS_LOG_LEVEL="loud")
    assert ended.returncode == 1
    assert "ValueError: Unknown level: 'LOUD'" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("make run: The API could not be started")


def test_an_api_that_was_killed_starts_again(tmp_path: Path, github_url: str) -> None:
    with LocalRun(tmp_path / "data", github_url) as running:
        [worker] = processes(running, r"\S*python.* multiprocessing.spawn ")
        os.kill(worker, signal.SIGKILL)
        time.sleep(0.5)
        assert running.client.get("/accounts").json() == []
        assert processes(running, r"\S*python.* multiprocessing.spawn ") != [worker]


def test_a_database_that_has_ended_ends_the_run(tmp_path: Path, github_url: str) -> None:
    with LocalRun(tmp_path / "data", github_url) as running:
        [java] = processes(running, r"\S*java ")
        os.kill(java, signal.SIGKILL)
        assert running.wait() == 1
        assert running.log.read_text().splitlines()[-1].startswith("make run: The database has ended")


def test_a_data_folder_in_use_is_said(service: LocalRun) -> None:
    assert_one_sentence(start(service.data, free_port()), str(service.data), "DATA_DIR=")


def a_file(data: Path) -> None:
    data.write_text("not a folder")


def a_damaged_secret(data: Path) -> None:
    data.mkdir()
    (data / "token_secret").write_text("not a secret")


def a_missing_secret(data: Path) -> None:
    (data / "database").mkdir(parents=True)
    (data / "database" / "some.db").write_text("")


@pytest.mark.parametrize("broken", [a_file, a_damaged_secret, a_missing_secret])
def test_a_broken_data_folder_is_said(tmp_path: Path, broken: Callable[[Path], None]) -> None:
    broken(tmp_path / "data")
    assert_one_sentence(start(tmp_path / "data", free_port()), str(tmp_path / "data"))


def test_a_broken_database_is_said(tmp_path: Path, github_url: str) -> None:
    with LocalRun(tmp_path / "data", github_url):
        pass
    for file in (tmp_path / "data" / "database").iterdir():
        file.write_bytes(b"broken" * 1000)
    assert_one_sentence(start(tmp_path / "data", free_port()), "database", "DATA_DIR=")


@pytest.fixture
def github_url() -> str:
    return "http://127.0.0.1:9"
