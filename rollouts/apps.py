from django.apps import AppConfig


class RolloutsConfig(AppConfig):
    name = "rollouts"

    def ready(self) -> None:
        from rollouts import cohort_panels, metrics, panels, rollback_panels, shadow_metrics  # noqa: F401  # importing registers

        metrics.register_all()
        panels.register()
        rollback_panels.register()
        cohort_panels.register()
