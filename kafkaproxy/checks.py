"""System checks, with stable ids (``docs/reference/checks.md``). None of them connects to Kafka.

Checks of rows or of this process's environment are warnings: an error would stop ``migrate``, which may be the repair.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import Error as DatabaseProblem
from django.db import router
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from kafkaproxy.conf import Settings, read_settings

__all__ = ["register_all"]

_PAGE: Final = "https://github.com/kafkaproxy/kafkaproxy/blob/main/docs/reference/checks.md"
# Bytes of a Unix socket's address (unix(7): 108 with the final NUL) minus the longest file name of a process's socket.
_SOCKET_FOLDER_BYTES: Final = 107 - len("/4194304-1000")
_GZIP: Final = "django.middleware.gzip.GZipMiddleware"
_ID_OF_ISSUE: Final = {
    **dict.fromkeys(("compile", "template", "param", "capability", "async"), "W010"),
    "env": "W011",
    "guard": "W012",
    "shadowed": "W013",
    "poll": "W014",
    "position": "W015",
}


def register_all() -> None:
    """Register the checks."""
    for check in (check_setting, check_store_dir, check_asgi, check_gzip):
        checks.register(check, "kafkaproxy")
    checks.register(check_application, "kafkaproxy", deploy=True)
    checks.register(check_configuration, "kafkaproxy", checks.Tags.database)


def check_setting(**_kwargs: Any) -> list[checks.CheckMessage]:
    """E001: the ``KAFKAPROXY`` setting cannot be read."""
    try:
        _read()
    except ImproperlyConfigured as error:
        return [_error("E001", str(error), _("Correct KAFKAPROXY in the settings."))]
    return []


def check_store_dir(**_kwargs: Any) -> list[checks.CheckMessage]:
    """E002, W004 to W006: the store's directory cannot be used."""
    try:
        folder = _read().store_dir
    except ImproperlyConfigured:
        return []
    return [*_check_folder(folder), *_check_sockets(folder)]


def check_asgi(**_kwargs: Any) -> list[checks.CheckMessage]:
    """W001: the site is configured for WSGI, under which no request reaches the proxy."""
    if getattr(settings, "ASGI_APPLICATION", None):
        return []
    hint = _(
        "Serve the site with an ASGI server and set ASGI_APPLICATION to the application that KafkaProxy wraps, such as "
        "'mysite.asgi.application'. Where the server is told by its command line, silence this check."
    )
    return [_warning("W001", _("ASGI_APPLICATION is not set. The proxy serves requests under ASGI only."), hint)]


def check_gzip(**_kwargs: Any) -> list[checks.CheckMessage]:
    """W003: a compressing middleware may delay streams."""
    if _GZIP not in settings.MIDDLEWARE:
        return []
    hint = _(
        "Keep KafkaProxy around the whole site, where this middleware does not see its responses, and do not compress "
        "text/event-stream in front of it either. Then silence this check."
    )
    return [_warning("W003", _("GZipMiddleware compresses responses; a compressed event stream arrives in lumps."), hint)]


def check_application(**_kwargs: Any) -> list[checks.CheckMessage]:
    """W002, W003 (``--deploy``): the ASGI application is not wrapped, or a compressing middleware is around the wrapper."""
    name = getattr(settings, "ASGI_APPLICATION", None)
    if not name:
        return []
    try:
        around = _around_proxy(import_string(name), depth=6)
    except ImportError as error:
        return [_warning("W002", _("ASGI_APPLICATION cannot be imported: %(error)s") % {"error": error}, None)]
    if around is None:
        hint = _("Write application = KafkaProxy(get_asgi_application()) there; see docs/how-to/deploy.md.")
        return [_warning("W002", _("No KafkaProxy was found in %(name)s.") % {"name": name}, hint)]
    return [
        _warning("W003", _("%(name)s is around KafkaProxy: it would delay streams.") % {"name": each}, None)
        for each in around
        if "gzip" in each.lower() or "compress" in each.lower()
    ]


def check_configuration(*, databases: Sequence[str] | None = None, **_kwargs: Any) -> list[checks.CheckMessage]:
    """W010 to W017: the stored configuration, if Django allows checks to use its database."""
    from kafkaproxy.models import ConfigVersion
    from kafkaproxy.routing.review import review_configuration

    if router.db_for_read(ConfigVersion) not in (databases or ()):
        return []
    try:
        issues = review_configuration(os.environ)
        others = [*_check_embedded(), *_check_guards()]
    except DatabaseProblem:  # not migrated yet
        return []
    return [
        *(_warning(_ID_OF_ISSUE[each.code], _located(each.where, each.field, each.message), None) for each in issues),
        *others,
    ]


def _read() -> Settings:
    return read_settings(getattr(settings, "KAFKAPROXY", {}))


def _check_folder(folder: Path) -> Iterator[checks.CheckMessage]:
    if not folder.is_absolute():
        hint = _("Write an absolute path: processes started elsewhere would use another store.")
        yield _warning("W005", _("KAFKAPROXY['STORE_DIR'] is a relative path: %(path)s.") % {"path": folder}, hint)
    existing = next(
        each for each in (folder, *folder.absolute().parents) if os.path.exists(each)
    )  # unlike Path.exists, raises no PermissionError
    if not os.path.isdir(existing):
        message = _("KAFKAPROXY['STORE_DIR'] cannot be created: %(path)s is not a directory.") % {"path": existing}
        yield _error("E002", message, _("Name a directory of a local disk."))
    elif not os.access(existing, os.W_OK | os.X_OK):
        message = _("KAFKAPROXY['STORE_DIR']: this user cannot write to %(path)s.") % {"path": existing}
        yield _warning("W004", message, _("Let the user that runs the server and the worker write there."))


def _check_sockets(folder: Path) -> Iterator[checks.CheckMessage]:
    from kafkaproxy.worker.notify.wake_socket import socket_folder

    sockets = socket_folder(folder)
    if len(os.fsencode(sockets)) > _SOCKET_FOLDER_BYTES:
        message = _("The path of the sockets that wake processes is too long: %(path)s.") % {"path": sockets}
        yield _warning("W006", message, _("Set TMPDIR to a shorter path; the same one for every process of the host."))


def _check_embedded() -> Iterator[checks.CheckMessage]:
    from kafkaproxy.models import Cluster
    from kafkaproxy.worker.types import EMBEDDED

    if not settings.DEBUG:
        for cluster in Cluster.objects.filter(bootstrap_servers=EMBEDDED):
            message = _("%(name)s is the embedded broker, which forgets every record when its process ends.")
            hint = _("Write the addresses of a Kafka cluster, unless this is a demo.")
            yield _warning("W016", message % {"name": cluster.name}, hint)


def _check_guards() -> Iterator[checks.CheckMessage]:
    from kafkaproxy.guard_kinds import check_guard
    from kafkaproxy.models import Guard

    for guard in Guard.objects.all():
        try:
            check_guard(guard.kind, guard.options if isinstance(guard.options, dict) else {})
        except ValidationError as error:
            message = _("%(name)s cannot be used, so it refuses every client: %(problems)s")
            yield _warning("W017", message % {"name": guard.name, "problems": " ".join(error.messages)}, None)


def _located(where: str, field: str, message: str) -> str:
    return f"{where}: {field}: {message}" if field else f"{where}: {message}"


def _around_proxy(app: object, *, depth: int) -> list[str] | None:
    """Return the class names of the middleware around the proxy, outermost first; None if there is no proxy in ``app``."""
    from kafkaproxy.asgi import KafkaProxy

    if isinstance(app, KafkaProxy):
        return []
    if depth:
        for inner in _inner_candidates(app):
            if (around := _around_proxy(inner, depth=depth - 1)) is not None:
                return [type(app).__name__, *around]
    return None


def _inner_candidates(app: object) -> Collection[object]:
    """Return what an ASGI middleware or router may wrap: its attributes, and the values of those that are mappings."""
    values = list(getattr(app, "__dict__", {}).values())
    return [each for value in values for each in (value.values() if isinstance(value, dict) else (value,))]


def _error(number: str, message: str, hint: str | None) -> checks.Error:
    return checks.Error(message, hint=_with_page(number, hint), id=f"kafkaproxy.{number}")


def _warning(number: str, message: str, hint: str | None) -> checks.Warning:
    return checks.Warning(message, hint=_with_page(number, hint), id=f"kafkaproxy.{number}")


def _with_page(number: str, hint: str | None) -> str:
    page = f"{_PAGE}#{number.lower()}"
    return f"{hint} {page}" if hint else page
