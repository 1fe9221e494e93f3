"""All settings. Every variable of the environment is read here, through env.py."""

import os
from pathlib import Path
from urllib.parse import quote, urlsplit

import dj_database_url
from csp.constants import NONE, SELF

from mistudio import env, keyfiles
from mistudio.places import redis_socket

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = env.folder("MISTUDIO_DATA_DIR", BASE_DIR / "data")
HOST = env.text("MISTUDIO_HOST", "127.0.0.1")
PORT = env.number("MISTUDIO_PORT", 8000, 1, 65535)
WORKERS = env.number("MISTUDIO_WORKERS", 2, 1, 64)
IMPORT_ROOTS = env.folders("MISTUDIO_IMPORT_ROOTS", DATA_DIR / "imports")
TRAININGS_DIR = env.path("MISTUDIO_TRAININGS_DIR", DATA_DIR / "trainings")
KEEP_SOURCE = env.flag("MISTUDIO_KEEP_SOURCE", True)
PUBLIC_URL = env.origin("MISTUDIO_PUBLIC_URL")
EXTERNAL_REDIS_URL = env.url("MISTUDIO_REDIS_URL", schemes=("redis", "rediss", "unix"))
REDIS_URL = EXTERNAL_REDIS_URL or f"unix://{quote(str(redis_socket(DATA_DIR)))}"
HF_ENDPOINT = env.url("HF_ENDPOINT", "https://huggingface.co")

# The Hub client reads these at import. Tokens are always passed by hand: it must find none itself.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
HF_TOKEN = env.token("HF_TOKEN")
for name in ("HF_TOKEN", "HF_TOKEN_FILE", "HUGGING_FACE_HUB_TOKEN"):
    os.environ.pop(name, None)

SECRET_KEY = env.text("MISTUDIO_SECRET_KEY") or keyfiles.read_or_create(DATA_DIR / "secret.key")
DEBUG = env.flag("MISTUDIO_DEBUG")

ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", *env.names("MISTUDIO_ALLOWED_HOSTS")]
if HOST not in ("0.0.0.0", "::"):
    ALLOWED_HOSTS.append(env.bracketed(HOST))
if PUBLIC_URL:
    ALLOWED_HOSTS.append(env.bracketed(urlsplit(PUBLIC_URL).hostname or ""))
    CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "channels",
    "django_rq",
    "django_htmx",
    "ninja",  # for the assets of its documentation page
    "template_partials",
    "csp",
    "axes",
    "saes",
]

MIDDLEWARE = [
    "saes.api.middleware.ErrorsInJson",
    # What only adds headers comes first: static files and early refusals carry them, too.
    "csp.middleware.CSPMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "saes.api.middleware.ApiMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "mistudio.urls"
ASGI_APPLICATION = "mistudio.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

SQLITE_OPTIONS = {
    # Without IMMEDIATE two writers that read first fail at once with "database is locked".
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;",
}
DATABASE_URL = env.url("MISTUDIO_DATABASE_URL", schemes=("postgresql", "postgres"))
DATABASES = {
    "default": dj_database_url.parse(DATABASE_URL, conn_health_checks=True)
    if DATABASE_URL
    else {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "mistudio.sqlite3",
        "OPTIONS": SQLITE_OPTIONS,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "mistudio"},
    }
}
RQ_QUEUES = {
    "sae": {
        "URL": REDIS_URL,
        "DEFAULT_TIMEOUT": -1,  # a download of a terabyte is not an error
        "SERIALIZER": "rq.serializers.JSONSerializer",  # pickle would run what Redis holds
    }
}

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
    )
]
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "saes:list"
LOGOUT_REDIRECT_URL = "sign-in"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_HTTP_RESPONSE_CODE = 429
AXES_LOCKOUT_TEMPLATE = "locked_out.html"
AXES_VERBOSE = False

HTTPS = PUBLIC_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
CSRF_COOKIE_HTTPONLY = True  # pages carry the token themselves
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# Whether a whole domain takes part in HSTS is for its owner to say, not for one host on it.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
# Two programs on one host share cookies whatever their ports: the port keeps them apart.
SESSION_COOKIE_NAME = f"mistudio_{PORT}_session"
CSRF_COOKIE_NAME = f"mistudio_{PORT}_csrf"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "object-src": [NONE],
    },
}

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"  # Django's default would move the log's clock to Chicago
USE_I18N = False
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_MAX_AGE = 3600
DATA_UPLOAD_MAX_MEMORY_SIZE = 2**20
DATA_UPLOAD_MAX_NUMBER_FILES = 1_000
# Never in memory; see saes/views/sent.py for where.
FILE_UPLOAD_HANDLERS = ["saes.views.sent.ToDataDirectory"]
DATA_UPLOAD_MAX_NUMBER_FIELDS = 10_100  # a batch names up to 10,000 SAEs of a repository

API_REQUESTS_PER_MINUTE = env.number("MISTUDIO_API_RATE", 600, 1, 1_000_000)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        # At INFO these print whole URLs, and a signed URL is a password.
        "httpx2": {"level": "WARNING"},
        "httpcore2": {"level": "WARNING"},
        "huggingface_hub": {"level": "ERROR"},
        "daphne": {"level": "WARNING"},
        "axes": {"level": "WARNING"},
        # Anybody can send a foreign Host: a traceback for each would let them fill the log.
        "django.security.DisallowedHost": {"handlers": [], "propagate": False},
    },
}
