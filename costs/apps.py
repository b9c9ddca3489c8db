from django.apps import AppConfig


class CostsConfig(AppConfig):
    name = "costs"

    def ready(self) -> None:
        from catalog.hooks import register_cost_figures
        from costs import metrics, panels  # noqa: F401  # importing registers
        from costs.figures import Figures

        register_cost_figures(Figures())
