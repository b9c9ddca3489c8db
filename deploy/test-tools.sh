#!/usr/bin/env bash
# What the tests use beside Python: a Chromium, and servers that nobody here wrote. Installed where the package manager can do it
# without asking; tests that miss theirs are skipped and say so.
set -euo pipefail
missing=()
browser() { for name in chromium-headless-shell chromium chromium-browser google-chrome; do command -v $name >/dev/null && return; done; return 1; }
browser || missing+=(chromium)
command -v redis-server >/dev/null || missing+=(redis-server)
compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null || missing+=(postgresql)
[ ${#missing[@]} = 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing for the tests: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  mkdir -p /etc/postgresql-common && [ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
  if apt-get update -qq; then
    # Debian has a shell without windows: opening a page takes it a third less of the processor than the whole browser.
    [ -z "$(apt-cache madison chromium-headless-shell)" ] || missing=("${missing[@]/%chromium/chromium-headless-shell}")
    if apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; then exit 0; fi
  fi
fi
echo "Some tests will be skipped, for want of: ${missing[*]}" >&2
