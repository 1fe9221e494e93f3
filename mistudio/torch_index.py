"""Prints the options of pip that choose where torch comes from. Run by the Makefile.

PyPI's torch for Linux brings 5.6 GB of CUDA along; PyTorch's own index has it for the CPU alone.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SECONDS = 5.0


def main() -> None:
    wanted = os.environ.get("MISTUDIO_TORCH_INDEX")
    if wanted is not None:
        options = "" if wanted in ("", "none") else f"--index-url {wanted}"
    elif sys.platform != "linux":
        options = ""  # everywhere else PyPI's own is for the CPU
    elif reachable(f"{CPU_INDEX}/torch/"):
        options = f"--index-url {CPU_INDEX}"
    else:
        options = ""
        sys.stderr.write(f"{CPU_INDEX} does not answer: torch comes from pip's usual index.\n")
    sys.stdout.write(options)


def reachable(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError as error:
        # pip brings its own certificates and may succeed where the system's are missing.
        return isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False


if __name__ == "__main__":
    main()
