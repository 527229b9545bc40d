"""Settings of the demo site. Everything an operator chooses comes from the environment:

- ``KAFKA_BOOTSTRAP_SERVERS``: the cluster; unset, an embedded broker (librdkafka's mock cluster) runs in the server process.
- ``DATABASE_URL``: such as ``postgres://user:password@host/name``; unset, SQLite in ``.demo/``.
- ``KAFKAPROXY_STORE_DIR``: where the local copy of topics lives; unset, ``.demo/store``.
- ``DJANGO_SECRET_KEY``: unset, a random one that is kept in ``.demo/``.
- ``DJANGO_ALLOWED_HOSTS``: separated by commas; unset, this machine.
- ``DJANGO_DEBUG``: ``1`` for Django's debug pages.
"""

from __future__ import annotations

import os

import dj_database_url

from project.keeping import DEMO_DIR, kept

os.environ.setdefault("KAFKA_BOOTSTRAP_SERVERS", "embedded")

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or kept(DEMO_DIR / "secret-key", 50)
DEBUG = os.environ.get("DJANGO_DEBUG", "").lower() in {"1", "true", "yes", "on"}
ALLOWED_HOSTS = [
    host.strip() for host in os.environ.get("DJANGO_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",") if host
]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "kafkaproxy",
    "project",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "project.urls"
ASGI_APPLICATION = "project.asgi.application"
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

DATABASES = {"default": dj_database_url.config(default=f"sqlite:///{DEMO_DIR / 'db.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # The server and a shell beside it write to the same file: wait for the lock instead of failing half-way.
    DATABASES["default"].setdefault("OPTIONS", {}).update({"timeout": 20, "transaction_mode": "IMMEDIATE"})
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

KAFKAPROXY = {"STORE_DIR": os.environ.get("KAFKAPROXY_STORE_DIR") or str(DEMO_DIR / "store")}

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = DEMO_DIR / "static"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname:7} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"kafkaproxy": {"level": "INFO"}, "project": {"level": "INFO"}},
}
