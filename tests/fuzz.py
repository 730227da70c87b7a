"""``make fuzz``: start the service with keys and a stand-in for GitHub, and let schemathesis at it."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from infra.openapi import DOCUMENT
from infra.stack import ROOT
from tests.black_box.targets import local

LEFT_OUT: Final = (
    # What a schema can't say: a cursor is one that a list gave, a proxy's address is public. Both are 422.
    "positive_data_acceptance",
    # API Gateway answers 404, not 405, to a method that no route has.
    "unsupported_method",
)


def fuzz(examples: str, *command: str) -> int:
    """Run schemathesis with so many examples for each operation; return its exit code."""
    with tempfile.TemporaryDirectory() as folder, local(Path(folder)) as target:
        client = target.client(target.write_key)
        for user in range(1, 6):
            target.fetch_metrics(client, target.import_account(client, f"gho_user-{user}"))
        code = subprocess.run(
            [
                *(*command, "--config-file", str(ROOT / "tests" / "schemathesis.toml"), "run", str(DOCUMENT)),
                *("--url", target.url, "--header", f"Authorization: Bearer {target.write_key}", "--checks", "all"),
                *("--exclude-checks", ",".join(LEFT_OUT), "--max-examples", examples, "--workers", "2"),
            ],
            cwd=folder,
            check=False,
        ).returncode
        client.close()
        raised = [line for line in target.log().splitlines() if " raised " in line or "internal_error" in line]
        print(f"{len(raised)} faults in the service's log", *raised[:10], sep="\n")
        return code or bool(raised)


if __name__ == "__main__":
    sys.exit(fuzz(os.environ.get("EXAMPLES") or "100", *sys.argv[1:]))
