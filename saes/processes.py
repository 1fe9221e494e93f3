"""Which process does a job, and whether it still lives, without asking it."""

import os
import socket
from pathlib import Path


def this_process() -> str:
    """`host pid start`: the start time tells a process from a later one with the same number."""
    return f"{socket.gethostname()} {os.getpid()} {start_of(os.getpid())}"


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
    return start_of(int(pid)) == started


def start_of(pid: int) -> str:
    """The kernel's start time of a process that runs; empty where there is no /proc (macOS)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # from field 3 on; the name before may hold spaces
    return "" if fields[0] in "ZX" else fields[19]  # a zombie has ended, only nobody took note


def name_of(pid: int) -> str:
    """How the name of process `pid` of this host begins; its start time is not known any more."""
    return f"{socket.gethostname()} {pid} "
