"""Expressions: ``${params.id}``, ``${guarded['jwt'].identity}``, ``${idempotencyKey}`` in topics, keys and values.

A template is parsed once, when it is saved or loaded, and rendered for each request. Rendering is one pass: a value is never
parsed again, so request data can neither add an expression nor break one.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Final, Protocol

from kafkaproxy.core.paths import NAME, TemplateError

__all__ = [
    "Attribute",
    "CorrelationId",
    "Expression",
    "IdempotencyKey",
    "Identity",
    "Parameter",
    "RenderContext",
    "TemplatePlace",
]
__all__ += ["Principal", "Template"]

_EXPRESSION: Final = re.compile(r"\$\{([^{}]*)\}?")
_PARAM: Final = re.compile(r"params\.(.+)", re.DOTALL)
_GUARD_NAME: Final = r"[A-Za-z][A-Za-z0-9._:-]*"
_GUARDED: Final = re.compile(rf"guarded\['({_GUARD_NAME})'\]\.(?:(identity)|attributes\.({_GUARD_NAME}))")


class Principal(Protocol):
    """The client as a guard identified it."""

    @property
    def identity(self) -> str:
        """The identity; empty if the credential names none."""
        ...

    @property
    def attributes(self) -> Mapping[str, str]:
        """The attributes that the guard maps from the credential."""
        ...


class RenderContext:
    """The values of a request for expressions. Without an idempotency key a random UUID is made when it is first read."""

    __slots__ = ("_idempotency_key", "correlation_id", "guarded", "params")

    def __init__(
        self,
        *,
        params: Mapping[str, str] = MappingProxyType({}),
        guarded: Mapping[str, Principal] = MappingProxyType({}),
        idempotency_key: str | None = None,
        correlation_id: str = "",
    ) -> None:
        self.params = params
        self.guarded = guarded
        self.correlation_id = correlation_id
        self._idempotency_key = idempotency_key

    @property
    def idempotency_key(self) -> str:
        """The client's key, or a random UUID that stays the same for the request."""
        if self._idempotency_key is None:
            self._idempotency_key = str(uuid.uuid4())
        return self._idempotency_key


@dataclass(frozen=True, slots=True)
class Parameter:
    """``${params.name}``."""

    name: str

    def render(self, context: RenderContext) -> str:
        """Return the decoded value of the path parameter."""
        return context.params[self.name]


@dataclass(frozen=True, slots=True)
class Identity:
    """``${guarded['guard'].identity}``; empty without a valid credential."""

    guard: str

    def render(self, context: RenderContext) -> str:
        """Return the identity, or an empty string."""
        principal = context.guarded.get(self.guard)
        return "" if principal is None else principal.identity


@dataclass(frozen=True, slots=True)
class Attribute:
    """``${guarded['guard'].attributes.name}``; empty if it is missing."""

    guard: str
    name: str

    def render(self, context: RenderContext) -> str:
        """Return the attribute, or an empty string."""
        principal = context.guarded.get(self.guard)
        return "" if principal is None else principal.attributes.get(self.name, "")


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """``${idempotencyKey}``: the client's, or a random UUID."""

    def render(self, context: RenderContext) -> str:
        """Return the idempotency key of the request."""
        return context.idempotency_key


@dataclass(frozen=True, slots=True)
class CorrelationId:
    """``${correlationId}``."""

    def render(self, context: RenderContext) -> str:
        """Return the correlation id of the exchange."""
        return context.correlation_id


Expression = Parameter | Identity | Attribute | IdempotencyKey | CorrelationId


class TemplatePlace(Enum):
    """Where a template is used. Each place allows its own expressions (the contract, *Matching*)."""

    TOPIC = auto()
    KEY = auto()
    OVERRIDE = auto()
    FILTER = auto()
    REPLY_TO = auto()
    ASYNC = auto()

    @property
    def allowed(self) -> frozenset[type[Expression]]:
        """The kinds of expression that are allowed here."""
        return _ALLOWED[self]


_COMMON: Final[frozenset[type[Expression]]] = frozenset({Parameter, Identity, Attribute})
_ALLOWED: Final[Mapping[TemplatePlace, frozenset[type[Expression]]]] = {
    TemplatePlace.TOPIC: _COMMON,
    TemplatePlace.KEY: _COMMON | {IdempotencyKey},
    TemplatePlace.OVERRIDE: _COMMON | {IdempotencyKey},
    TemplatePlace.FILTER: _COMMON,
    TemplatePlace.REPLY_TO: _COMMON,
    TemplatePlace.ASYNC: frozenset({Parameter, CorrelationId}),
}


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template: literal text and expressions; ``parts`` holds both in order."""

    text: str
    parts: tuple[str | Expression, ...]
    literal: str | None = None
    """The text, if it is the same for every request; else None."""

    @classmethod
    def parse(cls, text: str, place: TemplatePlace) -> Template:
        """Parse ``text`` for ``place``; raise :class:`TemplateError` for what is malformed or not allowed there."""
        parts: list[str | Expression] = []
        end = 0
        for found in _EXPRESSION.finditer(text):
            if found.start() > end:
                parts.append(text[end : found.start()])
            end = found.end()
            parts.append(_parse_expression(text, found, place))
        if end < len(text):
            parts.append(text[end:])
        return cls(text, tuple(parts), text if all(isinstance(part, str) for part in parts) else None)

    def render(self, context: RenderContext) -> str:
        """Return the text with the expressions' values."""
        if self.literal is not None:
            return self.literal
        parts = self.parts
        if len(parts) == 1:  # by far the most frequent
            part = parts[0]
            return part if isinstance(part, str) else part.render(context)
        return "".join(part if isinstance(part, str) else part.render(context) for part in parts)

    def render_quoted(self, context: RenderContext, quote: Callable[[str], str]) -> str:
        """Return the text with the expressions' values, each passed through ``quote``; literals stay as they are."""
        return "".join(part if isinstance(part, str) else quote(part.render(context)) for part in self.parts)

    @property
    def expressions(self) -> Iterable[Expression]:
        """The expressions, in order."""
        return (part for part in self.parts if not isinstance(part, str))

    @property
    def is_literal(self) -> bool:
        """True if the text is the same for every request."""
        return self.literal is not None

    @property
    def param_names(self) -> frozenset[str]:
        """The path parameters that rendering needs."""
        return frozenset(part.name for part in self.expressions if isinstance(part, Parameter))

    @property
    def guard_names(self) -> frozenset[str]:
        """The guards whose identity or attributes rendering reads."""
        return frozenset(part.guard for part in self.expressions if isinstance(part, (Identity, Attribute)))


def _parse_expression(text: str, found: re.Match[str], place: TemplatePlace) -> Expression:
    at = f"at position {found.start() + 1} of {text!r}"
    if not found[0].endswith("}"):
        raise TemplateError(f"The expression {at} is not closed: add '}}'.")
    expression = _recognise(found[1])
    if expression is None:
        raise TemplateError(f"{found[0]!r} {at} is not an expression. Known are {', '.join(_spellings(place))}.")
    if type(expression) not in place.allowed:
        raise TemplateError(f"{found[0]!r} {at} cannot stand here. Allowed are {', '.join(_spellings(place))}.")
    return expression


def _recognise(inner: str) -> Expression | None:
    if inner == "idempotencyKey":
        return IdempotencyKey()
    if inner == "correlationId":
        return CorrelationId()
    if (param := _PARAM.fullmatch(inner)) and NAME.fullmatch(param[1]):
        return Parameter(param[1])
    if guarded := _GUARDED.fullmatch(inner):
        return Identity(guarded[1]) if guarded[2] else Attribute(guarded[1], guarded[3])
    return None


def _spellings(place: TemplatePlace) -> list[str]:
    spelling: dict[type[Expression], str] = {
        Parameter: "${params.NAME}",
        Identity: "${guarded['GUARD'].identity}",
        Attribute: "${guarded['GUARD'].attributes.NAME}",
        IdempotencyKey: "${idempotencyKey}",
        CorrelationId: "${correlationId}",
    }
    return [text for kind, text in spelling.items() if kind in place.allowed]
