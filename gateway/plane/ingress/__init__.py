"""The doors of the plane: they read a request, say what it calls, and hand it to the pipeline."""
