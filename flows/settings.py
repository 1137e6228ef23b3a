"""Where the server of a workspace keeps its things, and the settings that it and its clients run with."""

import json
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmpipe import paths
from mmpipe.errors import NotFoundError
from mmpipe.files import write_bytes

HOST = "127.0.0.1"
USER = "mmpipe"
WORKSPACE = "MMPIPE_WORKSPACE"
"""In the environment of a worker: the folder that its runs are of."""
RUNS = {
    "DO_NOT_TRACK": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONSAFEPATH": "1",
    "MMPIPE_PROGRESS": "lines",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_COLORS": "false",
}
"""What every run needs in its environment, whoever starts it; prefect.yaml has the same for workers."""
RUNNER = "MMPIPE_RUNNER"
"""In the environment of what the scheduler starts: its process number."""
WEBHOOK = "MMPIPE_WEBHOOK"
"""In the environment of `mmpipe ui`: the URL that alarms are posted to."""
OWN_DATABASE = ("PREFECT_API_DATABASE_", "PREFECT_SERVER_DATABASE_")
"""Of a person's own settings, what the server keeps: another database than SQLite."""


@dataclass(frozen=True)
class Place:
    """Folders and files of the server of the workspace at `root`."""

    root: Path

    @property
    def folder(self) -> Path:
        """Prefect's own home, readable for nobody else."""
        return self.root.resolve() / paths.PRIVATE / "prefect"

    @property
    def logs(self) -> Path:
        """What the server and the scheduler print."""
        return self.root.resolve() / paths.PRIVATE / "logs"

    @property
    def reports(self) -> Path:
        """The reports of the last runs."""
        return self.root.resolve() / paths.PRIVATE / "reports"

    @property
    def runs(self) -> Path:
        """What runs came to that the server may not know of."""
        return self.folder / "runs"

    @property
    def credentials(self) -> Path:
        """`user:password` of the server."""
        return self.folder / "credentials"

    @property
    def address(self) -> Path:
        """Where the running server is: JSON {url, reports, pid}."""
        return self.folder / "server.json"

    def make(self) -> None:
        """Make the folders; nobody else may look into them."""
        for folder in (self.folder, self.logs, self.reports):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)

    def password(self) -> str:
        """`user:password`, made at the first call."""
        if not self.credentials.exists():
            before = os.umask(0o077)
            try:
                write_bytes(self.credentials, f"{USER}:{secrets.token_urlsafe(24)}\n".encode())
            finally:
                os.umask(before)
        self.credentials.chmod(0o600)
        return self.credentials.read_text("ascii").strip()

    def found(self) -> dict[str, str]:
        """What the address file says; {} where there is none."""
        try:
            found = json.loads(self.address.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def report_address(self, name: str) -> str | None:
        """The URL of a report, if reports are served."""
        base = self.found().get("reports")
        return f"{base}/{name}" if base else None


def enter() -> None:
    """The first step of a run that a worker starts: go to the workspace of this machine.

    Without MMPIPE_WORKSPACE the current folder must be one, as that of `mmpipe ui` is. Raises NotFoundError
    `workspace`.
    """
    root = Path(os.environ.get(WORKSPACE, "."))
    if not (root / paths.PIPELINE).is_file():
        fix = f'export {WORKSPACE}="$PWD" in the workspace, then start the worker again'
        raise NotFoundError("workspace", f"has no {paths.PIPELINE}", where=f"{WORKSPACE}={root}", fix=fix)
    os.chdir(root)


def client(place: Place, url: str) -> dict[str, str]:
    """The environment of every program that talks to the server at `url`, besides what this process has."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {
        **kept,
        **RUNS,
        "PATH": path,
        "PREFECT_HOME": str(place.folder),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_API_AUTH_STRING": place.password(),
        "PREFECT_RUNNER_POLL_FREQUENCY": "5",
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    }


def server(place: Place, url: str) -> dict[str, str]:
    """The environment of the server itself: loopback, a password, no other origin, nothing sent anywhere."""
    port = url.rpartition(":")[2]
    own: Mapping[str, str] = {
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": port,
        "PREFECT_SERVER_UI_API_URL": f"{url}/api",
        "PREFECT_SERVER_API_AUTH_STRING": place.password(),
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": url,
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_UI_V2_ENABLED": "false",  # before a login it asks an analytics company
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "flows.ordering",
    }
    database = {name: value for name, value in os.environ.items() if name.startswith(OWN_DATABASE)}
    sqlite = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{place.folder}/prefect.db"}
    return {**client(place, url), **(database or sqlite), **own}
