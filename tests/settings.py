"""Settings of the test suite. SQLite in a file, so that other processes see the same configuration.

``TEST_DATABASE_URL`` names another database, see ``tests.support.postgresql``.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_GIVEN = os.environ.get("KAFKAPROXY_TEST_DIR")
# Inside that of the process which started this one: it is removed even where this one is killed.
_AROUND = os.environ.get("KAFKAPROXY_TEST_PARENT", "")
_WORK = Path(_GIVEN or tempfile.mkdtemp(prefix="kafkaproxy-tests-", dir=_AROUND if os.path.isdir(_AROUND) else None))
if not _GIVEN:
    os.environ["KAFKAPROXY_TEST_PARENT"] = str(_WORK)
    atexit.register(shutil.rmtree, _WORK, ignore_errors=True)

SECRET_KEY = "tests only, and long enough for an HMAC with SHA-256"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.urls"
USE_TZ = True
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "kafkaproxy",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _WORK / "db.sqlite3",
        "TEST": {"NAME": _WORK / "test.sqlite3"},
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
if os.environ.get("TEST_DATABASE_URL"):
    import dj_database_url

    DATABASES = {"default": dict(dj_database_url.parse(os.environ["TEST_DATABASE_URL"]))}
KAFKAPROXY = {"STORE_DIR": str(_WORK / "store")}
