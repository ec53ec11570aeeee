# Sourced by the scripts beside it: what a fresh machine may lack. Nothing here runs by itself.

# Installs Debian packages that provide the given commands, as `command:package` pairs; a command that is there is skipped.
need() {
  missing=""
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
  done
  [ -z "$missing" ] && return 0
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing:$missing; install them with your system's package manager" >&2
    return 1
  fi
  as_root=""
  [ "$(id -u)" = 0 ] || as_root="sudo"
  echo "installing:$missing" >&2
  $as_root apt-get update -qq >&2 && $as_root apt-get install -y -qq --no-install-recommends $missing >&2
}

need_rust() {
  if ! command -v cargo >/dev/null 2>&1; then
    echo "missing: cargo, Rust 1.95 or newer; see https://www.rust-lang.org/tools/install" >&2
    return 1
  fi
}
