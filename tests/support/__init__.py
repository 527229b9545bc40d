"""What tests share: sites to serve, servers that serve them, clients, and services that answer. No tests."""
