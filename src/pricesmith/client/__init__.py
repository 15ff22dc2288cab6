"""Clients of a server: `http_client.py` for programs that wait and those that await, `steps.py` what both do."""
