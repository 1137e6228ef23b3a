"""A PostgreSQL cluster of a test's own: in a folder, on a free port of loopback, by an ordinary user."""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from scheduling import free_port

USER, DATABASE, PASSWORD = "mmpipe", "prefect", "not a secret"
_USERS = ("postgres", "nobody")


def programs():
    """The folder of initdb and pg_ctl, of the newest version that is installed; None without any."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


@contextmanager
def cluster():
    """The URL of an empty database whose owner is an ordinary role; all is gone at the end."""
    folder, port = Path(tempfile.mkdtemp(prefix="mmpipe-postgres-")), free_port()
    try:
        run = _runner(folder)
        run("initdb", "--pgdata", folder / "data", "--username", "admin", "--auth", "trust")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        where = ("--pgdata", folder / "data", "--log", folder / "log", "--wait")
        run("pg_ctl", "start", *where, "--options", options)
        try:
            psql = ("psql", "--host", folder, "--port", port, "--username", "admin", "--quiet")
            for words in (
                f"create role {USER} login password '{PASSWORD}'",
                f"create database {DATABASE} owner {USER}",
            ):
                run(*psql, "--dbname", "postgres", "--command", words)
            yield f"postgresql+asyncpg://{USER}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{port}/{DATABASE}"
        finally:
            run("pg_ctl", "stop", *where[:2], "--mode", "fast", "--wait")
    finally:
        shutil.rmtree(folder)


def _runner(folder):
    """Runs PostgreSQL's programs, which refuse to be root, by a user who then owns the folder."""
    become = ()
    if os.geteuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = next(name for name in _USERS if name in names)
        shutil.chown(folder, user)
        become = ("runuser", "-u", user, "--")

    def run(name, *arguments):
        command = [*become, str(programs() / name), *map(str, arguments)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    return run
