from django.apps import AppConfig


class RolloutsConfig(AppConfig):
    name = "rollouts"

    def ready(self) -> None:
        from rollouts import cohort_panels, panels, rollback_panels

        panels.register()
        rollback_panels.register()
        cohort_panels.register()
