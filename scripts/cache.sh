# Sourced by the other scripts: where fetched things live. crates/lockkeeper-cluster (cache_dirs) looks in the same places, in this order.
#
# A checkout below a closed directory (root's home) cannot be used by the account that PostgreSQL runs as, and a checkout or
# its .cache that belongs to somebody else cannot be written: the next place is taken then.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

cache_dirs() {
    [ -z "${LOCKKEEPER_CACHE:-}" ] || echo "$LOCKKEEPER_CACHE"
    echo "$top/.cache"
    echo /var/cache/lockkeeper
    [ -z "${HOME:-}" ] || echo "$HOME/.cache/lockkeeper"
}

# The account that PostgreSQL runs as when we are root, as crates/lockkeeper-cluster chooses it.
server_account() {
    getent passwd postgres >/dev/null && echo postgres || echo nobody
}

# Whether the server's account can reach and read a path.
reachable() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid="$(server_account)" --regid="$(id -g "$(server_account)")" --clear-groups test -r "$1" -a -x "$1"
    else
        test -r "$1" -a -x "$1"
    fi
}

# The first place that we can write and the server can read; makes it.
cache_dir() {
    local dir
    while IFS= read -r dir; do
        if mkdir -p "$dir" 2>/dev/null && [ -w "$dir" ] && reachable "$dir"; then
            echo "$dir"
            return
        fi
    done < <(cache_dirs)
    echo "no place to keep downloads: none of these can be written by $(id -un) and read by PostgreSQL's account:" >&2
    cache_dirs >&2
    echo "set LOCKKEEPER_CACHE to a directory that can" >&2
    return 1
}

need() {
    command -v "$1" >/dev/null || {
        echo "$(basename "$0"): $1 is not installed: $2" >&2
        exit 1
    }
}

# Two runs at once wait for each other; the lock goes with the process.
exclusively() {
    exec 9>"$1/.lock-$2"
    flock 9
}
