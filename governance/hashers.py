"""How passwords are kept."""

from __future__ import annotations

from django.contrib.auth.hashers import Argon2PasswordHasher


class PasswordHasher(Argon2PasswordHasher):
    """Argon2id with the first of OWASP's equal settings (46 MiB, one pass, one lane): many people may sign in at once.

    Source: OWASP Password Storage Cheat Sheet. Older hashes are renewed at the next sign-in.
    """

    time_cost = 1
    memory_cost = 47104
    parallelism = 1
