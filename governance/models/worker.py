"""Signs of life of background processes."""

from django.db import models


class Heartbeat(models.Model):
    """When a scheduled job last finished; a job whose heartbeat is old is not running."""

    placement = "public"

    name = models.CharField(max_length=64, primary_key=True)
    at = models.DateTimeField()
    took_ms = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.name
