"""A real HTTP server that speaks the OpenAI and MCP wire protocols, for machines without a provider and for tests.

It needs no key unless started with one, answers with small talk made from the prompt, counts tokens in a stable way, and keeps a
journal of what it served, so that losses elsewhere can be counted. `./manage.py sandbox_upstream` starts it.
"""
