#!/usr/bin/env python
"""Django's command line. Where no database server is configured or running, the embedded one runs for the command."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "governance.settings")
    from governance.launcher import local_database

    with local_database():
        from django.core.management import execute_from_command_line

        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
