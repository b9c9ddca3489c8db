"""The Celery app of the beat process: it only sends, so it loads the schedule and none of the Django apps."""

from celery import Celery

app = Celery("gatehouse-beat", fixups=[])
app.config_from_object("governance.celery_settings")
