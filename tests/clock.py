"""How long a promised time may take on the machine of this run."""

import os


def allowed(seconds: float) -> float:
    """The promise, stretched by how many tasks share a core now: the suite itself keeps more processes busy than there are cores."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
