"""The catalog's endpoints."""
