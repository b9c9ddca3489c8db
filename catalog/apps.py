from django.apps import AppConfig


class CatalogConfig(AppConfig):
    name = "catalog"

    def ready(self) -> None:
        from catalog import metrics, panels, review_selectors, scope_names, selectors, sources
        from catalog.services.answers import erase_answers
        from catalog.services.reviews import lock_all, look_at_guardrails
        from governance import drills, home, navigation, search
        from governance.access import Permission
        from governance.cached_answers import register_erasure
        from governance.catalog_names import register_names
        from governance.guardrail_watch import register_watch
        from governance.navigation import Item

        metrics.register_all()
        drills.register(selectors.drill_subjects)
        register_names(projects=selectors.project_names, models=selectors.model_names, finder=scope_names.found_names)
        register_erasure(erase_answers)
        register_watch(look_at_guardrails, hold=lock_all)
        navigation.register(
            Item(
                "operate",
                "Catalog",
                "Models",
                "operate-models",
                icon="box",
                permission=Permission.VIEW_OPERATE,
                order=10,
                due=panels.reviews_due,
                among=(review_selectors.waiting,),
            ),
            Item("operate", "Catalog", "Tools", "operate-tools", icon="tool", permission=Permission.VIEW_OPERATE, order=20),
            Item("operate", "Catalog", "Providers", "provider-list", icon="plug", permission=Permission.VIEW_OPERATE, order=30),
            Item(
                "operate",
                "Catalog",
                "Virtual keys",
                "operate-keys",
                icon="key",
                permission=Permission.MANAGE_KEYS,
                order=40,
                due=panels.key_requests_due,
                among=(selectors.waiting_key_requests,),
            ),
            Item("operate", "Control", "Limits", "limits", icon="gauge", permission=Permission.VIEW_OPERATE, order=57),
            Item("operate", "Organisation", "Projects", "project-list", icon="folders", permission=Permission.VIEW_OPERATE, order=20),
            Item("build", "Discover", "Models", "build-models", icon="box", permission=Permission.USE_GATEWAY, order=10),
            Item("build", "Discover", "Tools", "build-tools", icon="tool", permission=Permission.USE_GATEWAY, order=20),
            Item("build", "Try", "Playground", "playground", icon="terminal-2", permission=Permission.USE_GATEWAY, order=10),
            Item("build", "Use", "Prompts", "prompts", icon="message", permission=Permission.VIEW, order=20),
            Item("build", "Use", "Virtual keys", "build-keys", icon="key", permission=Permission.USE_GATEWAY, order=10),
            Item("build", "Learn", "First call", "first-call", icon="rocket", permission=Permission.USE_GATEWAY, order=10),
        )
        home.register(
            home.Panel("operate", "catalog/panels/attention.html", Permission.VIEW_OPERATE, panels.attention, order=10),
            home.Panel("build", "catalog/panels/start.html", Permission.USE_GATEWAY, panels.start, order=10, line=panels.start_line),
        )
        search.register(search.Source("Models", Permission.VIEW, sources.models))
        search.register(search.Source("Tools", Permission.VIEW, sources.tools))
        search.register(search.Source("Projects", Permission.VIEW, sources.projects))
        search.register(search.Source("Prompts", Permission.VIEW, sources.prompts))
        search.register(search.Source("Keys", Permission.VIEW, sources.keys))
