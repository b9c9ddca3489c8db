"""Figures that other systems keep: issue trackers, incident managers, CI, support desks, load tests.

They report them by API, each under its key and with its sample; a criterion reads the newest one of its window, so a report that
stops coming becomes no data. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Figure:
    key: str
    title: str
    unit: Literal["%", "s", "USD", "count", "pp", "score"]
    better: Literal["higher", "lower"]
    low: float
    """The smallest value that can be."""
    high: float
    minimum_sample: int
    description: str


INFINITE = float("inf")
FIGURES = {
    figure.key: figure
    for figure in (
        Figure("blocking_bugs", "Blocking bugs", "count", "lower", 0, INFINITE, 1, "P0 and P1 bugs that are open; from the issue tracker"),
        Figure("bugs_out_of_sla", "Bugs out of SLA", "count", "lower", 0, INFINITE, 1, "P0 and P1 bugs of the phase that are open or were resolved later than promised; from the issue tracker"),
        Figure("ci_failures", "Failing checks", "count", "lower", 0, INFINITE, 1, "checks of the newest run that failed; from CI"),
        Figure("converted_apis", "Converted APIs", "count", "higher", 0, INFINITE, 1, "APIs that are offered as tools; from the API management"),
        Figure("critical_bugs", "Critical bugs", "count", "lower", 0, INFINITE, 1, "critical bugs found in the phase; from the issue tracker"),
        Figure("critical_issues", "Critical issues", "count", "lower", 0, INFINITE, 1, "critical issues that were open in the last 24 hours; from the issue tracker"),
        Figure("csat", "Customer satisfaction", "score", "higher", 1, 5, 5, "mean of the answers from 1 to 5, their number as the sample; from the survey tool"),
        Figure("failover_partners", "Partners with a failover test", "count", "higher", 0, INFINITE, 1, "partners whose failover test succeeded; from the test's runs"),
        Figure("failover_time", "Failover time", "s", "lower", 0, INFINITE, 1, "of the slowest failover drill; from the drill"),
        Figure("golden_failures", "Failing golden answers", "count", "lower", 0, INFINITE, 1, "golden answers that are not met, those that were tried as the sample; from the harness"),
        Figure("load_multiple", "Load multiple", "count", "higher", 0, INFINITE, 1, "times the present volume at which every goal held; from the load test"),
        Figure("nps", "Net promoter score", "score", "higher", -100, 100, 10, "promoters less detractors in points, the answers as the sample; from the survey tool"),
        Figure("overruns_prevented", "Overruns prevented", "USD", "higher", 0, INFINITE, 1, "spend that alerts and budgets stopped, in total; from the telemetry"),
        Figure("p0_incidents", "P0 incidents", "count", "lower", 0, INFINITE, 1, "since the phase began; from the incident manager"),
        Figure("p1_incidents", "P1 incidents", "count", "lower", 0, INFINITE, 1, "since the phase began; from the incident manager"),
        Figure("partner_csat", "Partner satisfaction", "score", "higher", 1, 5, 1, "mean over partners from 1 to 5, the partners as the sample; from the survey tool"),
        Figure("portal_uptime", "Portal uptime", "%", "higher", 0, 100, 1, "of the last two weeks, seen from outside; from the monitoring"),
        Figure("retention_gain", "Retention gain", "pp", "higher", -100, 100, 1, "retention with the gateway less retention without; from the CRM"),
        Figure("revenue_of_plan", "Revenue of plan", "%", "higher", 0, INFINITE, 1, "revenue so far, of what was planned so far; from the accounts"),
        Figure("sev_incidents", "Sev1 and Sev2 incidents", "count", "lower", 0, INFINITE, 1, "of the last 30 days; from the incident manager"),
        Figure("support_tickets", "Support tickets", "count", "lower", 0, INFINITE, 1, "on cost controls in the last month; from the support desk"),
        Figure("synced_customers", "Customers with a cross-cloud sync", "count", "higher", 0, INFINITE, 1, "with an active sync; from the sync"),
    )
}  # fmt: skip
