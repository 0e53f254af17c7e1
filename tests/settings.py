"""The portal's settings with the tests' throw-away secrets: tests and type checks start from nothing else."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("PAGEWARDEN_ENV_FILE", str(Path(__file__).with_name("environment")))
os.environ.setdefault("DATA_DIR", tempfile.mkdtemp(prefix="pagewarden-tests-"))

from portal.settings import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
