"""HTTP over ASGI: types, requests and responses, disconnects, problems (RFC 9457), CORS, the lifespan protocol.

Imports ``core``, ``conf`` and the shapes of ``routing.table``; nothing of guards, consumers or the worker.
"""
