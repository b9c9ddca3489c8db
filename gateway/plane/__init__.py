"""The data plane: every governed call passes here. Plain asyncio and ASGI; imports only `gateway.contract` and libraries.

Start reading at `pipeline/__init__.py`, which lists what happens to a call, then `plane.py`, which owns the process's parts.
"""
