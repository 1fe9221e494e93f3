"""Which process does a job, and whether it still lives, without asking it."""

import os
import socket
from pathlib import Path


def this_process() -> str:
    """`host pid start`: the start time tells a process from a later one with the same number."""
    return f"{socket.gethostname()} {os.getpid()} {_started(os.getpid())}"


def is_alive(name: str) -> bool:
    """False only where the process was on this host and is certainly gone."""
    host, pid, started = name.split(" ") if name.count(" ") == 2 else ("", "0", "")
    if host != socket.gethostname():
        return True  # another machine: its lease tells
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _started(int(pid)) == started


def _started(pid: int) -> str:
    """The kernel's start time of a process; empty where there is no /proc (macOS)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]  # field 22; the name before may hold spaces
