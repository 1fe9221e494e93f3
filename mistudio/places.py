"""Where the embedded Redis-protocol server listens: a socket path short enough for the kernel."""

import hashlib
import os
import tempfile
from pathlib import Path

LONGEST_SOCKET_PATH = 100  # the kernel's limit is 107 bytes on Linux and 103 on macOS


def redis_socket(data_dir: Path) -> Path:
    """`run/redis.sock` in the data directory, or a folder of the same user under the temporary one.

    Every process derives the same path from the same data directory.
    """
    near = data_dir / "run" / "redis.sock"
    if len(os.fsencode(near)) <= LONGEST_SOCKET_PATH:
        return near
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"mistudio-{os.getuid()}-{digest}" / "redis.sock"
