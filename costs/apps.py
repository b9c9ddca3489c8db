from django.apps import AppConfig


class CostsConfig(AppConfig):
    name = "costs"

    def ready(self) -> None:
        from catalog.hooks import ModelTab, register_cost_figures, register_model_tab
        from costs import call_figures, metrics, panels  # noqa: F401  # importing registers
        from costs.figures import Figures
        from costs.services.ingest import forget_tenant
        from governance.call_figures import register as register_call_figures
        from governance.erasure import register_eraser
        from governance.roles import Permission

        register_call_figures(call_figures.Figures())
        register_cost_figures(Figures())
        register_model_tab(ModelTab("usage", "Usage", "model-usage", Permission.VIEW))
        register_eraser(forget_tenant)
