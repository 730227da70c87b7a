"""``make load``: how the local run bears 1, 8 and 32 clients: latency, errors, and its memory.

The second round of 32 shows whether memory goes on growing. Afterwards each account still has its metrics.
"""

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from infra.stack import ROOT
from tests.black_box.targets import everything, local

ACCOUNTS = 100
CLIENTS = (1, 8, 32, 32)
SECONDS = 40


def main(*locust: str) -> int:
    """Run the load and print a table; return 1 where a request failed."""
    failures = 0
    with tempfile.TemporaryDirectory() as folder, local(Path(folder)) as target:
        client = target.client(target.write_key)
        for user in range(1, ACCOUNTS + 1):
            target.fetch_metrics(client, target.import_account(client, f"gho_user-{user}"))
        print("| clients | requests | failed | requests/s | median ms | 95 % ms | 99 % ms | memory MB |")
        print("|---|---|---|---|---|---|---|---|")
        for clients in CLIENTS:
            subprocess.run(
                [
                    *(*locust, "--headless", "--only-summary", "--loglevel", "ERROR", "--csv", f"{folder}/{clients}"),
                    *("-f", str(Path(__file__).with_name("locustfile.py")), "--host", target.url),
                    *("--users", str(clients), "--spawn-rate", str(clients), "--run-time", f"{SECONDS}s"),
                ],
                cwd=ROOT,
                env={**os.environ, "KEY": target.write_key, "ACCOUNTS": str(ACCOUNTS)},
                capture_output=True,
                check=False,
            )
            with Path(f"{folder}/{clients}_stats.csv").open() as file:
                total = next(row for row in csv.DictReader(file) if row["Name"] == "Aggregated")
            failures += int(total["Failure Count"])
            print(
                f"| {clients} | {total['Request Count']} | {total['Failure Count']} | "
                f"{float(total['Requests/s']):.0f} | {total['50%']} | {total['95%']} | {total['99%']} | "
                f"{_megabytes(folder):.0f} |",
                flush=True,
            )
        latest = everything(client, "/metrics")
        print(
            f"{len(latest)} of {ACCOUNTS} accounts have metrics; the newest snapshot is {max(m['id'] for m in latest)}"
        )
        client.close()
    return int(failures > 0 or len(latest) != ACCOUNTS)


def _megabytes(folder: str) -> float:
    """Return what the API's own process takes: the youngest of the run with this data folder."""
    found = 0
    for status in Path("/proc").glob("[0-9]*/environ"):
        try:
            mine = f"{folder}/data".encode() in (status.parent / "cmdline").read_bytes()
            if mine:
                children = (status.parent / "task" / status.parent.name / "children").read_text().split()
                sizes = [
                    int(line.split()[1])
                    for child in children
                    for line in Path(f"/proc/{child}/status").read_text().splitlines()
                    if line.startswith("VmRSS") and b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
                ]
                found = max([found, *sizes])
        except OSError:
            continue
    return found / 1024


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
