"""The local run: ``make run`` starts the database and the API, and keeps both until Ctrl-C."""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from infra.local.data import DataFolder
from infra.local.events import SCHEDULE_OFF, period
from infra.local.server import keys_needed
from infra.local.services import PREFIX, command, listen, services
from infra.local.supervisor import Supervisor
from infra.stack import ROOT

WATCHED = [ROOT / name for name in ("functions", "shared", "infra")]


def run(port: int, path: Path) -> None:
    """Serve the API on loopback until stopped. Raises Problem where it can't be started."""
    keys_needed(os.environ)
    period(os.environ.get("FETCH_SCHEDULE", SCHEDULE_OFF))
    with listen(port) as listening, services(path) as running:
        os.environ.setdefault("POWERTOOLS_LOG_LEVEL", "WARNING")
        os.environ["AWS_ENDPOINT_URL_LAMBDA"] = f"http://127.0.0.1:{port}"
        _greet(port, running.data)
        Supervisor("infra.local.server:create_app", listening, WATCHED, running.check).run()
    print("Stopped.")


def _greet(port: int, data: DataFolder) -> None:
    url = f"http://localhost:{port}{PREFIX}"
    github = os.environ.get("COPILOT_METRICS__GITHUB_API_URL")
    example = f"""curl -X POST {url}/accounts/import -H 'Content-Type: application/json' -d '{{"token":"gho_xxx"}}'"""
    lines = [
        f"Copilot Metrics is running at {url}",
        f"  data    {data.path} (the database, and the secret that its tokens are encrypted under)",
        *([f"  GitHub  {urlsplit(github).netloc.rpartition('@')[2]}"] if github else []),
        *(["  keys    needed: make api-key NAME=... SCOPE=write"] if keys_needed(os.environ) else []),
        f"  try     curl {url}/health",
        f"  import  {example}",
        "  stop    Ctrl-C",
    ]
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(command("make run", str(__doc__), run))
