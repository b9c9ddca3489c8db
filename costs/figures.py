"""What the catalog asks of this floor: `catalog.hooks.CostFigures`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime

from catalog.hooks import CallRecord, Failovers, Price, PromptUsage, RoutedDay, Traffic, Tries, Usage
from costs import call_records, model_routing, model_usage, price_selectors, selectors
from costs.models import TokenClass
from costs.services import prices
from governance.models import User


class Figures:
    """Registered in `costs.apps`."""

    def current_prices(self) -> Mapping[tuple[str, str], Price]:
        return price_selectors.current_prices()

    def set_list_price(self, *, provider: str, model: str, price: Price, actor: User) -> None:
        for token_class, amount in ((TokenClass.INPUT, price.input_per_million), (TokenClass.OUTPUT, price.output_per_million)):
            prices.set_price(provider=provider, model=model, token_class=token_class, price=amount, actor=actor, source="Registration")

    def usage_by_model(self, slugs: Iterable[str] | None = None) -> Mapping[str, Usage]:
        return selectors.usage_by_model(slugs)

    def usage_by_key(self, public_ids: Iterable[str]) -> Mapping[str, Usage]:
        return selectors.usage_by_key(public_ids)

    def usage_by_prompt_version(self, prompt: str) -> list[PromptUsage]:
        return selectors.usage_by_prompt_version(prompt)

    def failovers(self, model: str, since: date) -> list[Failovers]:
        return model_usage.failovers(model, since)

    def tries_by_deployment(self, models: Iterable[str], since: datetime) -> Mapping[str, Tries]:
        return model_usage.tries_by_deployment(models, since)

    def routed_days(self, model: str, since: datetime) -> list[RoutedDay]:
        return model_routing.routed_days(model, since)

    def traffic_by_deployment(self, model: str, since: datetime) -> Traffic:
        return model_routing.traffic_by_deployment(model, since)

    def call_record(self, request_id: str, keys: Iterable[str]) -> CallRecord | None:
        return call_records.call_record(request_id, keys)
