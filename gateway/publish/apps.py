from __future__ import annotations

from django.apps import AppConfig


class PublishConfig(AppConfig):
    name = "gateway.publish"
    label = "gateway"
    verbose_name = "Gateway"

    def ready(self) -> None:
        from catalog.hooks import register_circuits, register_limit_uses
        from costs.hooks import register_spend_book
        from gateway.publish.health import Circuits
        from gateway.publish.limits import limit_uses
        from gateway.publish.planes import Told
        from gateway.publish.publisher import book_spend, forget_tenant, publish_platform, publish_tenant
        from governance import config, erasure
        from governance.planes import register_planes

        config.register_publisher(publish_tenant)
        config.register_platform_publisher(publish_platform)
        register_circuits(Circuits())
        register_planes(Told())
        register_limit_uses(limit_uses)
        register_spend_book(book_spend)
        erasure.register_eraser(forget_tenant)
