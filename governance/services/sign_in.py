"""Checking a password, for the sign-in page and for a program's first token."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth import authenticate
from django.core.cache import cache

from governance.errors import SignInError, TooManyAttemptsError
from governance.models import User

ATTEMPTS, ATTEMPTS_WITHIN = 10, timedelta(minutes=15)


def check_password(*, email: str, password: str) -> User:
    """The active person with this address and password.

    Raises SignInError with the same text for a wrong password and an unknown address, and TooManyAttemptsError after ten
    failures of one address within 15 minutes. Failures are counted per web process.
    """
    counter = f"sign-in:{email.strip().lower()}"
    if cache.get(counter, 0) >= ATTEMPTS:
        raise TooManyAttemptsError("Too many attempts with this address. Try again in 15 minutes.")
    user = authenticate(username=email.strip(), password=password)
    if isinstance(user, User):
        cache.delete(counter)
        return user
    cache.set(counter, cache.get(counter, 0) + 1, ATTEMPTS_WITHIN.total_seconds())
    raise SignInError("The address and the password don't fit together.")
