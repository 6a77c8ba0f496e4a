"""A PostgreSQL server of a test's own, on loopback, where its programs are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PASSWORD = "not-for-any-log"


def programs() -> Path | None:
    """The folder of initdb and pg_ctl, where Debian and others put them; None if there is none."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next(
        (folder for folder in folders if (folder / "pg_ctl").exists() and (folder / "initdb").exists()), None
    )


@contextmanager
def server(programs: Path) -> Iterator[str]:
    """Yield the URL of a new server; root starts it as nobody, as PostgreSQL wants."""
    root = Path(tempfile.mkdtemp())
    user = "nobody" if os.geteuid() == 0 else None
    if user:
        root.chmod(0o755)
        os.chown(root, pwd.getpwnam(user).pw_uid, -1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (root / "password").write_text(PASSWORD)

    def run(*command: str) -> None:
        done = subprocess.run(command, user=user, cwd=root, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        assert done.returncode == 0, (root / "log").read_text()

    options = (
        f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=40"
    )
    pg_ctl = (str(programs / "pg_ctl"), "-D", str(root / "data"), "-w")
    with (root / "log").open("w") as log:
        auth = ("--auth=scram-sha-256", f"--pwfile={root / 'password'}", "-U", "edt", "-N")
        run(str(programs / "initdb"), "-D", str(root / "data"), *auth)
        run(*pg_ctl, "-o", options, "start")
        try:
            yield f"postgresql://edt:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            run(*pg_ctl, "-m", "immediate", "stop")
            shutil.rmtree(root)
