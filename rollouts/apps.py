from django.apps import AppConfig


class RolloutsConfig(AppConfig):
    name = "rollouts"

    def ready(self) -> None:
        from rollouts import panels, rollback_panels

        panels.register()
        rollback_panels.register()
