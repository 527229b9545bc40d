"""asyncapi, openapi and openapi-asyncapi bindings, written out as the bindings that they stand for.

A server becomes tcp, tls, http and sse servers, a proxy http-kafka and sse-kafka routes, a client the kafka bindings: the same
that an operator would write by hand, so that the later steps need not know of them. A part of a specification that narrows,
guards or checks requests and has no equivalent is refused, at its line of the specification.
"""

from __future__ import annotations
