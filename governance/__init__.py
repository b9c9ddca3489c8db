"""The project package and the ground floor: tenants, people, consent, audit."""

from governance.celery import app as celery_app

__all__ = ["celery_app"]
