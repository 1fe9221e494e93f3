"""The soak test takes many minutes: `make soak` runs it, and nothing else does."""

import os

if "MISTUDIO_TEST_SOAK" not in os.environ:
    collect_ignore_glob = ["test_*.py"]
