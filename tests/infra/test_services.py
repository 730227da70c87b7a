"""The file .env: read whole, or refused with its line's number."""

import socket
from pathlib import Path

import pytest

from infra.local.problem import Problem
from infra.local.services import listen, variables
from tests.end_to_end.running import free_port


def test_each_line_is_a_variable(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# settings\nA=1\nexport B='two words'\n\nC=\n")
    assert variables(tmp_path / ".env") == {"A": "1", "B": "two words", "C": ""}
    assert variables(tmp_path / "none") == {}


@pytest.mark.parametrize(
    "content", [b"A=1\nCOPILOT_METRICS__TOKEN_SECRET gho_canary\n", b"A=1\nB\n", b"A=1\nB='open\n"]
)
def test_a_line_that_is_none_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(Problem, match=r"\.env, line 2: ") as refused:
        variables(tmp_path / ".env")
    assert "canary" not in str(refused.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\n")
    with pytest.raises(Problem, match="UTF-8"):
        variables(tmp_path / ".env")
    (tmp_path / "folder").mkdir()
    with pytest.raises(Problem, match="IsADirectoryError"):
        variables(tmp_path / "folder")


def test_answers_are_sent_at_once() -> None:
    """Asyncio turns Nagle's algorithm off only for sockets that say they are TCP."""
    with listen(free_port()) as listening:
        assert listening.proto == socket.IPPROTO_TCP
