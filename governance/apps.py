from django.apps import AppConfig


class GovernanceConfig(AppConfig):
    name = "governance"
    verbose_name = "Governance"

    def ready(self) -> None:
        from governance import drill_selectors, drills, effect_metrics, home, navigation, search, selectors, uptime_metrics  # noqa: F401 - registers itself
        from governance.access import Permission
        from governance.migration_state import render_only_what_is_new
        from governance.navigation import Item
        from governance.views.search_sources import find_guardrails, find_people, find_policies

        render_only_what_is_new()
        navigation.register(
            Item("operate", "Control", "Policies", "policies", icon="shield-check", permission=Permission.VIEW_OPERATE, order=50),
            Item("operate", "Control", "Guardrails", "guardrails", icon="shield", permission=Permission.VIEW_OPERATE, order=55),
            Item("operate", "Control", "Consent", "consent", icon="user-check", permission=Permission.VIEW_OPERATE, order=60),
            Item("operate", "Control", "Payloads", "payloads", icon="file-text", permission=Permission.VIEW_OPERATE, order=62),
            Item("operate", "Control", "Switches", "switches", icon="power", permission=Permission.VIEW_OPERATE, order=65),
            Item("operate", "Reliability", "Drills", "drills", icon="stopwatch", permission=Permission.VIEW_OPERATE, order=60),
            Item("operate", "Organisation", "People", "people", icon="users", permission=Permission.VIEW_OPERATE, order=80),
            Item("operate", "Organisation", "Alerts", "alerts", icon="bell", permission=Permission.VIEW_OPERATE, order=85),
            Item("operate", "Organisation", "Audit log", "audit", icon="history", permission=Permission.VIEW_AUDIT, order=90),
        )
        drills.register(drill_selectors.pillars)
        home.register(
            home.Panel("operate", "governance/partials/attention_panel.html", Permission.VIEW_OPERATE, selectors.attention_for, order=0)
        )
        search.register(search.Source("Pages", Permission.VIEW, navigation.pages_named))
        search.register(search.Source("People", Permission.VIEW_OPERATE, find_people))
        search.register(search.Source("Policies", Permission.VIEW_OPERATE, find_policies))
        search.register(search.Source("Guardrails", Permission.VIEW_OPERATE, find_guardrails))
