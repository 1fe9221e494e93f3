"""The settings, for tests: a data directory of their own, and nothing of the user's environment.

MISTUDIO_TEST_DATABASE_URL runs the same tests on PostgreSQL.
"""

import atexit
import os
import shutil
import tempfile

for name in list(os.environ):
    if name.startswith(("MISTUDIO_", "HF_")) and not name.startswith("MISTUDIO_TEST_"):
        del os.environ[name]
os.environ["MISTUDIO_DATA_DIR"] = tempfile.mkdtemp(prefix="mistudio-tests-")
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # no test reaches the real Hub by mistake
if url := os.environ.get("MISTUDIO_TEST_DATABASE_URL"):
    os.environ["MISTUDIO_DATABASE_URL"] = url
atexit.register(shutil.rmtree, os.environ["MISTUDIO_DATA_DIR"], ignore_errors=True)

from mistudio.settings import *

CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real ones are slow
MIDDLEWARE = [it.replace("whitenoise.middleware.WhiteNoiseMiddleware", "tests.quick.ScannedOnce")
              for it in MIDDLEWARE]  # fmt: skip
# In a file: a database in memory is shared badly between the threads of one job.
DATABASES["default"].setdefault("TEST", {})
if not DATABASE_URL:
    DATABASES["default"]["TEST"] = {"NAME": DATA_DIR / "test.sqlite3"}
