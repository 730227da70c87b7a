"""An administrator's commands, beside a service that runs meanwhile."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import httpx
import pytest

from infra.stack import ROOT
from tests.end_to_end.running import LocalRun, user_environment
from tests.stand_ins.github import GitHubStandIn


def admin(module: str, data: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"infra.admin.{module}", "--data", str(data), *arguments],
        cwd=ROOT,
        env=user_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(process: subprocess.Popen[str], code: int = 0) -> str:
    out, err = process.communicate(timeout=110)
    assert process.returncode == code, out + err
    return out + err


def key(data: Path, scope: str, *more: str) -> str:
    return done(admin("api_keys", data, "make", "--name", "a test", "--scope", scope, *more)).split()[-1]


@pytest.fixture
def closed(github: GitHubStandIn, tmp_path: Path) -> Iterator[LocalRun]:
    with LocalRun(tmp_path / "data", github.url, AUTH="on") as running:
        yield running


def test_keys_open_what_their_scope_says_until_they_are_revoked(closed: LocalRun) -> None:
    def status(method: str, path: str, authorization: str | None) -> int:
        headers = {} if authorization is None else {"authorization": authorization}
        body = {"token": "gho_user-1"} if path.endswith("import") else None
        return closed.client.request(method, path, headers=headers, json=body).status_code

    reading, writing = key(closed.data, "read"), key(closed.data, "write", "--days", "1")
    assert status("GET", "/health", None) == 200
    assert status("GET", "/accounts", None) == 401
    assert status("POST", "/accounts/import", f"Bearer {reading}") == 403
    assert status("POST", "/accounts/import", f"Bearer {writing[:-1]}A") == 403
    assert status("GET", "/accounts", f"Bearer {reading}") == 200
    assert closed.client.get("/accounts", headers={"authorization": f"Bearer {reading}"}).json() == []
    assert status("POST", "/accounts/import", f"Bearer {writing}") == 200
    assert status("DELETE", "/accounts/1", f"Bearer {reading}") == 403
    assert status("DELETE", "/accounts/1", f"Bearer {writing}") == 204
    done(admin("api_keys", closed.data, "revoke", "--id", writing.split("_")[1]))
    assert status("GET", "/accounts", f"Bearer {writing}") == 403
    said = done(admin("api_keys", closed.data, "revoke", "--id", "0"), code=1)
    assert said.strip() == "make api-key: There is no API key 0."
    listed = done(admin("api_keys", closed.data, "list"))
    assert listed.count("a test") == 2
    logs = closed.log.read_text() + listed
    assert "gho_user" not in logs
    for secret in (reading, writing):
        assert secret.split("_", 2)[2] not in logs


def test_commands_serve_a_data_folder_that_nobody_uses_and_none_that_is_not_there(tmp_path: Path) -> None:
    said = done(admin("api_keys", tmp_path / "none", "list"), code=1)
    assert said.startswith("make api-key: There is no data folder")
    (tmp_path / "data").mkdir()
    made = key(tmp_path / "data", "read")
    assert made.split("_")[1] in done(admin("api_keys", tmp_path / "data", "list"))


def test_the_secret_changes_while_the_service_runs_and_the_command_is_killed(
    github: GitHubStandIn, tmp_path: Path
) -> None:
    with LocalRun(tmp_path / "data", github.url) as running:
        secret_file = running.data / "token_secret"
        old = secret_file.read_text().strip()
        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(running.import_account, [f"gho_user-{user}" for user in range(7000, 7060)]))
        [outdated] = key_ids(running.data)
        failed: list[httpx.Response] = []
        stopping = threading.Event()

        def fetching() -> None:
            with httpx.Client(base_url=running.client.base_url, timeout=40, trust_env=False) as client:
                while not stopping.is_set():
                    for account_id in ids[::7]:
                        answer = client.post(f"/metrics/fetch/{account_id}")
                        if answer.status_code != 200:
                            failed.append(answer)

        fetcher = threading.Thread(target=fetching)
        fetcher.start()
        for _ in range(2):
            before = key_ids(running.data)[outdated]
            process = admin("rotate_secret", running.data)
            while key_ids(running.data)[outdated] > before - 8:
                assert process.poll() is None
                time.sleep(0.05)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        assert key_ids(running.data)[outdated] > 0
        new, kept = secret_file.read_text().strip().split(",")
        assert kept == old
        said = done(admin("rotate_secret", running.data))
        stopping.set()
        fetcher.join()
        assert [answer.text for answer in failed] == []
        assert "FINISH=1" in said
        assert secret_file.read_text().strip() == f"{new},{old}"
        running.stop()
        secret_file.write_text(f"{new}\n")  # what FINISH=1 does, six minutes later
        running.start()
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(running.fetch_metrics, ids))) == len(ids)
        for secret in (new, old):
            assert secret not in said + running.log.read_text()


def key_ids(data: Path) -> Counter[str]:
    """How many tokens are under each secret."""
    environment = json.loads((data / "running.json").read_text())
    client = boto3.client(
        "dynamodb",
        endpoint_url=environment["AWS_ENDPOINT_URL_DYNAMODB"],
        region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key="unused",
    )
    pages = client.get_paginator("scan").paginate(TableName="copilot_github_accounts")
    found = [item["token_key_id"]["S"] for page in pages for item in page["Items"] if "token_key_id" in item]
    client.close()
    return Counter(found)
