"""Compiles what the apps hold into the snapshot that the plane serves from."""
