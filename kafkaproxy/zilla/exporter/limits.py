"""A plan cut down to what a dialect of Zilla can say. Whatever is left out is reported, and never opens anything.

A guard that Zilla does not have is left undefined: there, as here, a rule guarded by an unknown guard refuses every client.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from kafkaproxy.core.env import env_names
from kafkaproxy.specs.types import AccessControlSpec, EntrySpec, RouteSpec
from kafkaproxy.zilla.plan import CREDENTIAL_FIELDS, ClusterPlan, GatewayPlan, GuardPlan, Plan
from kafkaproxy.zilla.report import ExportReport

__all__ = ["DIALECTS", "limited"]

DIALECTS: Final = (1, 2)
"""The major versions whose configuration can be written."""

_JWT: Final = ("issuer", "audience", "keys", "challenge")
_JWT_2: Final = (*_JWT, "roles", "identity", "attributes")
_DERIVED: Final = frozenset({"allow_http"})
"""Options that an import sets by itself."""
_HARMLESS: Final = frozenset({"algorithm", "leeway", "cache", "timeout"})
"""Options without which Zilla lets in the same clients, or fewer."""
_SECRET_PARTS: Final = frozenset({"k", "d", "p", "q", "dp", "dq", "qi", "oth"})
"""Members of a JWK that are secret (RFC 7518 section 6)."""
_NOT_ALNUM: Final = re.compile(r"[^A-Za-z0-9]+")
_MECHANISMS: Final = frozenset({"", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"})


def limited(plan: Plan, dialect: int, report: ExportReport) -> Plan:
    """Return the plan without what the dialect cannot say."""
    return replace(
        plan,
        gateways=tuple(_gateway(each, dialect, report) for each in plan.gateways),
        clusters=tuple(_cluster(each, report) for each in plan.clusters),
        guards=tuple(made for each in plan.guards if (made := _guard(each, dialect, report)) is not None),
    )


def _gateway(plan: GatewayPlan, dialect: int, report: ExportReport) -> GatewayPlan:
    subject = f"gateway {plan.name}"
    entries = tuple(_entry(each, plan.name, dialect, report) for each in plan.entries)
    fields: dict[str, Any] = {}
    for name in CREDENTIAL_FIELDS:
        pairs = list(getattr(plan, name).items())
        if len(pairs) > 1:
            left = ", ".join(each for each, _ in pairs[1:])
            report.lose(subject, f"{name}: Zilla reads only one place of a kind, so {left} is left out.")
        fields[name] = dict(pairs[:1])
    guard: str | None = plan.guard
    if guard is not None and not any(fields.values()):
        report.lose(subject, f"The guard {guard} finds credentials by itself, and Zilla has to be told where they are.")
        guard = None
    elif guard is None and any(fields.values()):
        report.lose(subject, "Credentials that belong to no guard are left out.", "Choose a guard, or remove them.")
        fields = {name: {} for name in fields}
    return replace(
        plan,
        entries=entries,
        guard=guard,
        access_control=_access(plan.access_control, subject, report),
        **fields,
    )


def _access(plan: AccessControlSpec, subject: str, report: ExportReport) -> AccessControlSpec:
    plain = AccessControlSpec()
    if plan.policy == plain.policy:
        if plan != plain:
            report.lose(subject, "What is allowed to other origins is left out: the policy same-origin allows nothing.")
        return plain
    for name in ("allow_origins", "allow_methods", "allow_headers", "expose_headers"):
        if getattr(plan, name) == ():
            report.refuse(subject, f"{name} is an empty list, and Zilla would allow any.", "Write some, or make it null.")
    return plan


def _entry(plan: EntrySpec, gateway: str, dialect: int, report: ExportReport) -> EntrySpec:
    subject = f"entry {gateway}/{plan.name}"
    if len({route.capability == "stream" for route in plan.routes}) > 1:
        message = "It has streams and other routes, and a route of Zilla's http server leads to one kind of them."
        report.refuse(subject, message, "Move the streams to an entry of their own, with conditions on the path.")
    routes = tuple(_route(each, f"route {gateway}/{plan.name}/{each.name}", dialect, report) for each in plan.routes)
    return replace(plan, routes=routes)


def _route(plan: RouteSpec, subject: str, dialect: int, report: ExportReport) -> RouteSpec:
    if "${guarded" in plan.reply_to:
        message = "reply-to names who the client is; Zilla fills in only parameters there."
        report.refuse(subject, message, "Use a topic that is the same for everybody, and an override for the identity.")
    for name in ("overrides", "async_fields"):
        names = [each for each, _ in getattr(plan, name)]
        if len(set(names)) < len(names):
            report.refuse(subject, f"{name} has a name twice, and Zilla's is a mapping.", "Keep one of them.")
    if plan.correlation_header and dialect == 1:
        message = "Zilla 1.x has no correlation-id for a single route; it is left out."
        report.lose(subject, message, "Choose dialect 2, or use the gateway's correlation id header.")
        plan = replace(plan, correlation_header="")
    if plan.capability != "stream" and any(row.method in ("", "*") for row in plan.conditions or (None,) if row):
        report.warn(subject, "It names no method, and Zilla takes any.", "Write the methods.")
    return plan


def _cluster(plan: ClusterPlan, report: ExportReport) -> ClusterPlan:
    subject = f"cluster {plan.name}"
    if plan.sasl_mechanism not in _MECHANISMS:
        message = f"{plan.sasl_mechanism} is left out: Zilla has only fixed tokens. Without it the brokers refuse."
        report.lose(subject, message, "Use another mechanism, or write it by hand.")
        plain = {"SASL_SSL": "SSL", "SASL_PLAINTEXT": "PLAINTEXT"}
        security = plain.get(plan.security_protocol, plan.security_protocol)
        plan = replace(plan, security_protocol=security, sasl_mechanism="", sasl_username="", sasl_password="")
    if plan.ssl_ca:
        message = "The CA certificates are left out: Zilla reads them from a PKCS #12 file."
        report.lose(subject, message, f"Make {plan.name}.p12 of them, each with the alias 'ca', beside the file.")
    if plan.sasl_password and not env_names(plan.sasl_password):
        variable = f"{_NOT_ALNUM.sub('_', plan.name).upper()}_SASL_PASSWORD"
        report.warn(subject, f"The SASL password is left out: set the environment variable {variable} where Zilla runs.")
        plan = replace(plan, sasl_password=f"${{{{env.{variable}}}}}")
    return plan


def _guard(plan: GuardPlan, dialect: int, report: ExportReport) -> GuardPlan | None:
    subject = f"guard {plan.name}"
    closed = "Nobody gets past it in Zilla: it is left undefined."
    if plan.kind != "jwt":
        report.lose(subject, f"Zilla has no guards of the kind {plan.kind}. {closed}", "Use a jwt guard.")
        return None
    known = _JWT if dialect == 1 else _JWT_2
    given = {name: value for name, value in plan.options.items() if name not in _DERIVED and value is not None}
    options = {name: value for name, value in given.items() if name in known}
    if wrong := [name for name in given if name not in known and name not in _HARMLESS]:
        advice = "Choose dialect 2." if set(wrong) <= set(_JWT_2) else ""
        report.lose(subject, f"Zilla {dialect}.x has no {', '.join(wrong)}. {closed}", advice)
        return None
    if wrong := [name for name, check in _CHECKS.items() if not check(options.get(name))]:
        message = f"{', '.join(wrong)} cannot be written as Zilla wants it, or is a secret. {closed}"
        report.lose(subject, message, "Zilla needs one issuer, one audience, and keys that are public and have kty and kid.")
        return None
    for name in sorted(_HARMLESS & given.keys()):
        report.lose(subject, f"{name} is left out: Zilla has no such option.")
    return replace(plan, options=options)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_seconds(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9)


def _are_keys(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, str):
        return value.startswith(("http://", "https://")) or bool(env_names(value))
    return isinstance(value, list) and bool(value) and all(map(_is_public_key, value))


def _is_public_key(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"kty", "kid"} <= value.keys()
        and not any(name in _SECRET_PARTS and not env_names(str(part)) for name, part in value.items())
    )


_CHECKS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "issuer": _is_text,
    "audience": _is_text,
    "keys": _are_keys,
    "challenge": _is_seconds,
}
