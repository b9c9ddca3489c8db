"""Endpoints of the costs floor."""
