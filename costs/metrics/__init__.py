"""Figures of this floor for gates, SLOs and rollback rules. Each reads rollups over whole hours of the window."""

from costs.metrics import anomalies, attribution, gateway, governing, spending, usage  # noqa: F401  # importing registers
