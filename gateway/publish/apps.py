from __future__ import annotations

from django.apps import AppConfig


class PublishConfig(AppConfig):
    name = "gateway.publish"
    label = "gateway"
    verbose_name = "Gateway"

    def ready(self) -> None:
        from gateway.publish.publisher import forget_tenant, publish_tenant
        from governance import config, erasure

        config.register_publisher(publish_tenant)
        erasure.register_eraser(forget_tenant)
