"""asyncapi, openapi and openapi-asyncapi bindings, written out as the bindings that they stand for.

A server becomes tcp, tls, http and sse servers, a proxy http-kafka and sse-kafka routes, a client the kafka bindings: the same
that one would write by hand, so that everything behind this step holds for them too. What narrows, guards or checks in a
specification and has no equivalent is refused, at its line of the specification.
"""

from __future__ import annotations
