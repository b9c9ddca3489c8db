"""The floors of the house hold: nobody imports upwards, and the plane knows nothing of Django."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_nothing_imports_against_the_floors() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout


def test_importing_the_plane_loads_no_django() -> None:
    script = "import sys, gateway.plane.asgi; print(sorted(name for name in sys.modules if name.partition('.')[0] in ('django', 'governance', 'catalog', 'costs')))"

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.stdout.strip() == "[]", done.stdout + done.stderr
