from __future__ import annotations

from django.apps import AppConfig


class PublishConfig(AppConfig):
    name = "gateway.publish"
    label = "gateway"
    verbose_name = "Gateway"

    def ready(self) -> None:
        from costs.hooks import register_spend_book
        from gateway.publish.publisher import book_spend, forget_tenant, publish_tenant
        from governance import config, erasure

        config.register_publisher(publish_tenant)
        register_spend_book(book_spend)
        erasure.register_eraser(forget_tenant)
