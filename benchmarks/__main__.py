"""`python -m benchmarks [NAME ...]`"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import orjson

import benchmarks

RESULTS = Path(__file__).with_name("results.json")


def names() -> list[str]:
    """Modules of this package that offer `measure() -> dict of figures`."""
    return sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_"))


def main() -> int:
    wanted = sys.argv[1:] or names()
    unknown = set(wanted) - set(names())
    if unknown:
        print(f"There is no benchmark named {', '.join(sorted(unknown))}. There are: {', '.join(names())}.", file=sys.stderr)
        return 2
    for name in wanted:
        module = importlib.import_module(f"benchmarks.{name}")
        area, figures = getattr(module, "AREA", name), module.measure()
        kept = orjson.loads(RESULTS.read_bytes()) if RESULTS.exists() else {}
        kept |= {f"{area}.{figure}": value for figure, value in figures.items()}
        RESULTS.write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE))
        for figure, value in figures.items():
            print(f"{area}.{figure:<34} {value:>12,}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
