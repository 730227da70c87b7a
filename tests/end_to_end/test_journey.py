"""A user's way through the service, on the real database and over real sockets."""

import base64
import json
from pathlib import Path

from tests.end_to_end.running import LocalRun
from tests.stand_ins.github import GitHubStandIn


def test_what_was_acknowledged_is_still_there_after_a_restart_and_after_a_kill(
    github: GitHubStandIn, tmp_path: Path
) -> None:
    running = LocalRun(tmp_path / "data", github.url)
    with running:
        assert running.client.get("/accounts").json() == []
        first = running.import_account("gho_user-1")
        second = running.import_account("gho_user-2-numbers")
        fetched = [running.fetch_metrics(first), running.fetch_metrics(second), running.fetch_metrics(first)]
        assert (first, second, fetched) == (1, 2, [1, 2, 3])
        account = running.client.get(f"/accounts/{first}")
        assert account.json()["last_fetch"]["status"] == "ok"
        assert account.json() | {"created_at": "", "updated_at": "", "last_fetch": {}} == {
            "id": 1,
            "login": "octo-1",
            "github_user_id": 1,
            "node_id": "U_1",
            "avatar_url": "https://avatars.example/u/1?v=4",
            "created_at": "",
            "updated_at": "",
            "paused": False,
            "last_fetch": {},
        }
        accounts, metrics = running.client.get("/accounts"), running.client.get("/metrics")
        assert [item["id"] for item in accounts.json()] == [2, 1]
        assert [(item["account_id"], item["id"]) for item in metrics.json()] == [(1, 3), (2, 2)]
        assert '"exact": 93.50, "large": 123456789012345678901234567890, "huge": 1e400' in metrics.text

        assert running.stop() == 0
        running.start()
        assert running.client.get("/accounts").text == accounts.text
        assert running.client.get("/metrics").text == metrics.text

        last = running.fetch_metrics(first)
        running.kill()
        running.start()
        assert running.client.get(f"/metrics/{first}").json()["id"] == last
        assert running.fetch_metrics(first) > last
        assert running.import_account("gho_user-3") == 3


def test_neither_a_token_nor_the_secret_is_in_any_file_or_line_of_a_run(github: GitHubStandIn, tmp_path: Path) -> None:
    tokens = ["gho_user-777001", "gho_user-777001-echo", "gho_user-777001-down", "gho_user-777002-refused"]
    running = LocalRun(tmp_path / "data", github.url)
    with running:
        for token in tokens:
            answer = running.client.post("/accounts/import", json={"token": token, "proxy": None})
            assert token not in answer.text
            running.client.post("/accounts/import", json={"token": token + "\n"})
            running.client.post("/accounts/import", json={"token": token, "token2": token})
            running.client.post("/accounts/import", content=json.dumps(token), headers={"content-type": "text/plain"})
            running.client.post("/metrics/fetch/1")
        secret = (tmp_path / "data" / "token_secret").read_text().strip()
        assert running.client.get("/metrics/1").status_code == 200
    hunted = [form for text in (*tokens, secret) for form in forms(text)]
    files = [file for file in tmp_path.rglob("*") if file.is_file() and file.name != "token_secret"]
    assert any(file.suffix == ".db" for file in files)
    assert any(file.suffix == ".log" and b"POST" in file.read_bytes() for file in files)
    found = [(file, form) for file in files for form in hunted if form in file.read_bytes()]
    assert found == []


def forms(text: str) -> list[bytes]:
    """How a text could hide: as it is, in hexadecimal digits, and in base64."""
    raw = text.encode()
    return [raw, raw.hex().encode(), base64.b64encode(raw).rstrip(b"=")[:-1]]
