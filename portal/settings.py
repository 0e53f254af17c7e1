"""Settings, all from the environment; each secret also from ``<NAME>_FILE``. Nothing secret has a default.

``manage.py demo`` makes its own secrets; tests and type checks read the throw-away ones of ``tests/environment``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.FileAwareEnv()
if environment_file := os.environ.get("PAGEWARDEN_ENV_FILE"):
    if not Path(environment_file).is_file():
        raise ImproperlyConfigured(f"PAGEWARDEN_ENV_FILE names {environment_file}, which is not a file.")
    # The file that was named wins over what is set: a demo must not reach for a database of its surroundings.
    env.read_env(environment_file, overwrite=True)

DEBUG = False
SECRET_KEY: str = env.str("SECRET_KEY")
FIELD_ENCRYPTION_KEY: list[str] = env.list("FIELD_ENCRYPTION_KEY")
JOURNAL_SIGNING_KEY: str = env.str("JOURNAL_SIGNING_KEY")
PUBLIC_URL: str = env.str("PUBLIC_URL", "http://127.0.0.1:8000").rstrip("/")
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=[])
_public = urlsplit(PUBLIC_URL)
if _public.scheme not in ("http", "https") or not _public.hostname or _public.path or _public.query:
    raise ImproperlyConfigured(f"PUBLIC_URL is {PUBLIC_URL!r}: it must be a scheme, a host and at most a port.")
PUBLIC_HOST: str = _public.hostname
LOOPBACK = _public.hostname in ("localhost", "127.0.0.1", "::1")
if not ALLOWED_HOSTS:
    ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"] if LOOPBACK else [_public.hostname]
TRUSTED_PROXIES: list[str] = env.list("TRUSTED_PROXIES", default=[])
"""CIDR blocks of the proxies whose X-Forwarded-For is believed."""

DATA_DIR = Path(env.str("DATA_DIR", str(BASE_DIR / "data")))
"""Where checkpoints, and by default the databases of the portal and of huey, are kept."""

INSTALLED_APPS = [
    "portal.apps.AdministrationConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "csp",
    "django_htmx",
    "policies",
    "integrations",
    "portal",
]
MIDDLEWARE = [
    "portal.middleware.ClientAddress",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "portal.middleware.NothingActs",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "portal.middleware.SignInRequired",
    "portal.middleware.ReadersZone",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "portal.middleware.GuessesAnswered",
]
ROOT_URLCONF = "portal.urls"
ASGI_APPLICATION = "portal.asgi.application"
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
                "portal.stops.shown",
                "portal.frame.shown",
            ],
        },
    },
]


def database(url: str) -> dict[str, Any]:
    """Django's settings of one database, with what the journal needs of it: an append that is committed is on disk."""
    config: dict[str, Any] = env.db_url_config(url)
    # Under ASGI each request may run on another thread: persistent connections would pile up.
    config["CONN_MAX_AGE"] = 0
    if config["ENGINE"].endswith("sqlite3"):
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
        }
        # A file, in tests too: the journal's writer and the pages are different threads.
        config["TEST"] = {"NAME": env.str("TEST_DATABASE_FILE", str(DATA_DIR / "test.sqlite3"))}
    else:
        # After an outage pages must not meet its dead connections, nor wait for the next turn of a doubling pause; and a
        # host that is gone without a word must be missed.
        config["CONN_HEALTH_CHECKS"] = True
        config["OPTIONS"] = {
            "pool": {"min_size": 1, "max_size": 8, "timeout": 10, "reconnect_timeout": 5},
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        }
    return config


DATABASES = {"default": database(env.str("DATABASE_URL", f"sqlite:///{DATA_DIR}/pagewarden.sqlite3"))}
REDIS_URL: str = env.str("REDIS_URL", "")
HUEY_FILE: str = env.str("HUEY_FILE", str(DATA_DIR / "huey.sqlite3"))
"""Tasks wait in Redis where it is set, else in an SQLite file of their own."""

# Reminders go out by it. Without a mail server they are printed by the worker.
vars().update(env.email_url("EMAIL_URL", default="consolemail://"))
EMAIL_TIMEOUT = 20
DEFAULT_FROM_EMAIL: str = env.str("DEFAULT_FROM_EMAIL", f"pagewarden@{_public.hostname}")

AUTH_USER_MODEL = "policies.User"
AUTHENTICATION_BACKENDS = ["portal.backends.LimitedBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "sign-in"

# django-allauth: portal/sign_in.py and portal/oidc.py say how it is used.
ACCOUNT_ADAPTER = "portal.sign_in.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
# Guesses are counted by policies/actions.py: its limits hold across processes, and are not two.
ACCOUNT_RATE_LIMITS = False
MFA_RATE_LIMITS = False
ACCOUNT_LOGIN_TIMEOUT = 900
MFA_ADAPTER = "portal.sign_in.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "Pagewarden"
MFA_TOTP_TOLERANCE = 1
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_FORMS = {
    "authenticate": "portal.sign_in.CodeForm",
    "reauthenticate": "portal.sign_in.CodeAgainForm",
    "login_webauthn": "portal.sign_in.PasskeyAloneForm",
    "authenticate_webauthn": "portal.sign_in.PasskeySecondForm",
    "reauthenticate_webauthn": "portal.sign_in.PasskeyAgainForm",
    "add_webauthn": "portal.sign_in.PasskeyForm",
}
SOCIALACCOUNT_ADAPTER = "portal.oidc.SocialAdapter"
SOCIALACCOUNT_EMAIL_VERIFICATION = "none"
OIDC_PROVIDERS: str = env.str("OIDC_PROVIDERS", "")
"""JSON: portal/oidc.py reads it, docs/operations.md explains it."""
OIDC_PROXY: str = env.str("OIDC_PROXY", "")
"""The proxy to the providers, as http://host:port; empty: they are reached directly."""
REQUIRE_MFA: list[str] = env.list("REQUIRE_MFA", default=[])
"""Who must have a second factor: administrators, auditors, managers (of any team)."""

# Nothing is kept in one process that others would have to know: what is remembered is in the database.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}

LANGUAGE_CODE = "en-gb"
USE_I18N = False
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = env.str("STATIC_ROOT", str(BASE_DIR / "staticfiles"))
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _public.scheme == "https"
SESSION_COOKIE_HTTPONLY = True
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
SECURE_HSTS_SECONDS = 31_536_000 if _public.scheme == "https" else 0
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}

ADMIN_REQUIRES_MFA: bool = env.bool("ADMIN_REQUIRES_MFA", True)
"""Django's admin is for administrators who signed in with a second factor; off in the demo."""

# The doors' limits. Sizes in bytes, times in seconds.
REQUEST_BODY_LIMIT: int = env.int("REQUEST_BODY_LIMIT", 1_000_000)
REQUEST_HEADER_LIMIT: int = env.int("REQUEST_HEADER_LIMIT", 16_000)
ANSWER_LIMIT: int = env.int("ANSWER_LIMIT", 16_000_000)
CONNECT_TIME_LIMIT: float = env.float("CONNECT_TIME_LIMIT", 5.0)
CALL_TIME_LIMIT: float = env.float("CALL_TIME_LIMIT", 30.0)
CALLS_PER_MINUTE: int = env.int("CALLS_PER_MINUTE", 300)
"""What a new agent key gets when nobody says otherwise, and what a person has who tries tools; 0: no limit."""

PERSONAL_WORKSPACES: bool = env.bool("PERSONAL_WORKSPACES", True)
"""Whether people may make a workspace of their own. Those that exist stay."""
TOKEN_MAXIMUM_AGE_DAYS: int = env.int("TOKEN_MAXIMUM_AGE_DAYS", 365)
CONNECTION_TEST_MINUTES: int = env.int("CONNECTION_TEST_MINUTES", 60)
CHECKPOINT_MINUTES: int = env.int("CHECKPOINT_MINUTES", 60)
CHECKPOINT_DIR = Path(env.str("CHECKPOINT_DIR", str(DATA_DIR / "checkpoints")))
SPOOL_DIR = Path(env.str("SPOOL_DIR", str(DATA_DIR / "spool")))
"""Where entries wait on this machine's own disk while the database is away, if reads go on then."""

PAGERDUTY_SANDBOX_URL: str = env.str("PAGERDUTY_SANDBOX_URL", "")
"""Where the sandbox region is. From the environment alone, never from a form; empty: there is no such region."""
OUTBOUND_PROXY: str = env.str("OUTBOUND_PROXY", "")
"""The corporate proxy, as http://user:password@host:port; empty: PagerDuty is reached directly, whatever HTTPS_PROXY says."""
OUTBOUND_CA_FILE: str = env.str("OUTBOUND_CA_FILE", "")
"""More certificate authorities to trust (a proxy's own, say), in PEM; empty: the public ones alone."""

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "portal.logs.Line", "fmt": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", "INFO")},
    "loggers": {
        # These log whole URLs and headers at DEBUG and INFO.
        **{name: {"level": "WARNING"} for name in ("httpx", "httpcore", "asyncio")},
        # It says at INFO of every request by the handshake that a session of it, which there is none, has ended.
        "mcp": {"level": "WARNING"},
        # The server's, which writes what nobody caught in a form of its own.
        "_granian": {"handlers": ["stderr"], "propagate": False},
    },
}
