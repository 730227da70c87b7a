"""What a user sees when a local run can't start: one sentence, and no traceback."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.stack import ROOT
from tests.end_to_end.running import LocalRun, free_port, user_environment


def start(data: Path, port: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.local", "--port", str(port), "--data", str(data)]
    return subprocess.run(
        command, cwd=ROOT, env=user_environment(), capture_output=True, text=True, timeout=60, check=False
    )


def assert_one_sentence(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    assert ended.returncode == 1
    assert ended.stderr.startswith("make run: ")
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    for word in words:
        assert word in ended.stderr


def test_a_port_in_use_is_said(service: LocalRun, tmp_path: Path) -> None:
    assert_one_sentence(start(tmp_path / "data", service.port), str(service.port), "PORT=")
    assert not (tmp_path / "data").exists()


def test_a_port_that_is_none_is_said(tmp_path: Path) -> None:
    assert_one_sentence(start(tmp_path / "data", 70_000), "70000", "PORT=")


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
