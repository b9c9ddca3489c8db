"""Tables as CSV, made by `governance.csvs`, under the name by which the views of costs know it."""

from governance.csvs import Echo, cell, response

__all__ = ["Echo", "cell", "response"]
