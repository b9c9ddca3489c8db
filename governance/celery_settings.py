"""Celery's own settings and the schedule. Read only by workers, beat and whoever queues a task."""

from typing import Any

from celery.schedules import crontab
from django.conf import settings

broker_url = settings.CELERY_BROKER_URL
broker_transport_options: dict[str, Any] = {}
if broker_url.startswith("pgmq://"):
    # The SQL of pgmq is installed by the launcher. Remote control needs reply queues with names longer than pgmq allows.
    broker_transport_options = {
        "init_extension": False,
        "visibility_timeout": 120,
        "wait_time_seconds": 1,
        "polling_interval": 0.1,
        "queue_name_prefix": "gh_",
    }
worker_enable_remote_control = False
worker_send_task_events = False
worker_prefetch_multiplier = 1
worker_hijack_root_logger = False
task_acks_late = True
task_reject_on_worker_lost = True
task_ignore_result = True
task_serializer = "json"
accept_content = ["json"]
task_default_queue = "default"
broker_connection_retry_on_startup = True
timezone = "UTC"

beat_schedule: dict[str, dict[str, Any]] = {
    # name: task, seconds between runs. Each task is harmless when it runs twice or finds nothing to do.
    "publish-stragglers": {"task": "governance.tasks.publish_stragglers", "schedule": 5.0, "options": {"expires": 5}},
    "measure-slow-effects": {"task": "governance.tasks.measure_slow_effects", "schedule": 30.0, "options": {"expires": 30}},
    "run-drills": {
        "task": "governance.tasks.dispatch_drills",
        "schedule": crontab(hour=5, minute=30, day_of_week="mon"),
        "options": {"expires": 3600},
    },
    # On the minute, and over before the next one: what runs late would speak for another minute.
    "probe-portal": {"task": "governance.tasks.probe_portal", "schedule": crontab(), "options": {"expires": 45}},
    "tell-circuits": {"task": "gateway.publish.tasks.dispatch_circuits", "schedule": 15.0, "options": {"expires": 15}},
    "ingest": {"task": "costs.tasks.dispatch_ingest", "schedule": 1.0, "options": {"expires": 2}},
    "collect-payloads": {"task": "gateway.publish.tasks.dispatch_payloads", "schedule": 3.0, "options": {"expires": 3}},
    "purge-payloads": {"task": "governance.tasks.dispatch_payload_purge", "schedule": 3600.0, "options": {"expires": 3000}},
    "purge-answers": {"task": "catalog.tasks.dispatch_answer_purge", "schedule": 3600.0, "options": {"expires": 3000}},
    "warn-of-rotation": {"task": "catalog.tasks.dispatch_rotation_warnings", "schedule": 3600.0, "options": {"expires": 3000}},
    "deliver-alerts": {"task": "governance.tasks.dispatch_alerts", "schedule": 15.0, "options": {"expires": 15}},
    "reconcile": {"task": "costs.tasks.dispatch_reconciliation", "schedule": 3600.0, "options": {"expires": 1800}},
    "watch-budgets": {"task": "costs.tasks.dispatch_budgets", "schedule": 60.0, "options": {"expires": 60}},
    "compact-rollups": {"task": "costs.tasks.dispatch_compaction", "schedule": 3600.0, "options": {"expires": 3000}},
    "archive-months": {"task": "costs.tasks.dispatch_archiving", "schedule": 3600.0, "options": {"expires": 3000}},
    "tell-showback": {"task": "costs.tasks.dispatch_showback", "schedule": 3600.0, "options": {"expires": 3000}},
    "tell-review": {"task": "costs.tasks.dispatch_review", "schedule": 3600.0, "options": {"expires": 3000}},
    "fetch-bills": {"task": "costs.tasks.dispatch_bill_sources", "schedule": 1800.0, "options": {"expires": 1800}},
    "read-price-feed": {"task": "costs.tasks.dispatch_price_feed", "schedule": 3600.0, "options": {"expires": 3000}},
    "read-exchange-rates": {"task": "costs.tasks.dispatch_exchange_rates", "schedule": 21_600.0, "options": {"expires": 3000}},
    "detect-anomalies": {"task": "costs.tasks.dispatch_anomalies", "schedule": 900.0, "options": {"expires": 900}},
    "note-key-figures": {"task": "catalog.tasks.dispatch_key_figures", "schedule": 300.0, "options": {"expires": 300}},
    "read-experiments": {"task": "rollouts.tasks.dispatch_experiments", "schedule": 300.0, "options": {"expires": 300}},
    "look-at-shadows": {"task": "rollouts.tasks.dispatch_shadows", "schedule": 60.0, "options": {"expires": 60}},
    "look-at-shifts": {"task": "rollouts.tasks.dispatch_shifts", "schedule": 60.0, "options": {"expires": 60}},
    "watch-rollbacks": {"task": "rollouts.tasks.dispatch_rollbacks", "schedule": 10.0, "options": {"expires": 10}},
    "watch-the-watcher": {"task": "rollouts.tasks.watch_the_watcher", "schedule": 60.0, "options": {"expires": 60}},
    "screen-cohorts": {"task": "rollouts.tasks.dispatch_screening", "schedule": 3600.0, "options": {"expires": 3000}},
    "end-cohorts": {"task": "rollouts.tasks.end_cohorts", "schedule": 300.0, "options": {"expires": 300}},
    "drill-cohorts": {
        "task": "rollouts.tasks.drill_cohorts",
        "schedule": crontab(hour=5, minute=45, day_of_week="mon"),
        "options": {"expires": 3600},
    },
    "evaluate-gates": {"task": "rollouts.tasks.dispatch_evaluation", "schedule": 30.0, "options": {"expires": 30}},
}
