"""The properties of asyncapi, openapi and openapi-asyncapi bindings, in both dialects of the reference.

What they pass on (``tls``, ``authorization``, ``sasl``) is checked where it ends up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.utils.translation import gettext_noop

from kafkaproxy.zilla.bindings.shape import ANYTHING, Items, NamedItems, Properties, Shape, Text

__all__ = ["CLIENT", "KINDS", "PROXY", "SERVER"]

SERVER: Final = "server"
PROXY: Final = "proxy"
CLIENT: Final = "client"

_NAME: Final = Text()
_GUARDED: Final = gettext_noop("Guard by the security of the specification, or guard the whole server in front of Django.")
_OVERLAY: Final = gettext_noop("Apply the overlay to the specification, and remove it here.")
_SPECS: Final = NamedItems(
    Properties(
        known={
            "server": _NAME,
            "servers": Items(ANYTHING, least=1),
            "catalog": NamedItems(ANYTHING, most=1),
            "security": NamedItems(_NAME, free=True),
            "store": ANYTHING,
        },
        needs=("catalog",),
        forbidden={"overlay": _OVERLAY},
    )
)
_SELECTED: Final[Mapping[str, Shape]] = dict.fromkeys(("spec", "operation", "tag", "api-id", "operation-id"), _NAME)
_SERVERS: Final = {"servers": gettext_noop("Select by operation or tag: which server a request came by is not known here.")}
_HTTP: Final = Properties(known={"authorization": ANYTHING})


def _binding(options: Mapping[str, Shape], with_: Shape | None, *, specs: Shape = _SPECS) -> Properties:
    route: dict[str, Shape] = {"when": Items(Properties(known=_SELECTED, forbidden=_SERVERS)), "exit": _NAME}
    if with_ is not None:
        route["with"] = with_
    routes = Items(Properties(known=route, needs=("exit",), forbidden={"guarded": _GUARDED}))
    known: dict[str, Shape] = {"type": ANYTHING, "kind": ANYTHING, "vault": _NAME, "telemetry": ANYTHING}
    known |= {"options": Properties(known={"specs": specs, **options}, needs=("specs",)), "exit": _NAME, "routes": routes}
    return Properties(known=known, needs=("options",))


_LISTENING: Final[Mapping[str, Shape]] = {"tcp": ANYTHING, "tls": ANYTHING, "http": _HTTP}
_WITH: Final = Properties(known=_SELECTED)

KINDS: Final[Mapping[tuple[str, str], Properties]] = {
    ("asyncapi", SERVER): _binding({**_LISTENING, "mqtt": ANYTHING}, None),
    ("openapi", SERVER): _binding(_LISTENING, None),
    ("asyncapi", PROXY): _binding({"mqtt-kafka": ANYTHING}, _WITH),
    ("openapi-asyncapi", PROXY): _binding(
        {}, _WITH, specs=Properties(known={"openapi": _SPECS, "asyncapi": _SPECS}, needs=("openapi", "asyncapi"))
    ),
    ("asyncapi", CLIENT): _binding(
        {
            "tcp": ANYTHING,
            "tls": ANYTHING,
            "http": ANYTHING,
            "mqtt": ANYTHING,
            "kafka": Properties(known={"sasl": ANYTHING, "topics": ANYTHING}),
        },
        None,
    ),
}
"""By type and kind; an openapi client leads to no Kafka."""
