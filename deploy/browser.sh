#!/usr/bin/env bash
# A Chromium for the browser tests: the system's, or installed where the package manager can do it without asking.
set -euo pipefail
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing Chromium for the browser tests"
  apt-get update -qq && apt-get install -y -qq chromium >/dev/null && exit 0
fi
echo "No Chromium was found: the browser tests will be skipped. On Debian: sudo apt-get install chromium" >&2
