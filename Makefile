# make demo    builds, and plays schema changes on a live table straight at PostgreSQL and through Lockkeeper
# make check   format, lints and the tests that need no server
# make test    runs every test against real servers
# make test-versions   the catalogue of dangers on PostgreSQL 13 to 18, which it fetches
# make bench   measures what forwarding costs beside HAProxy and PgBouncer, judging and migrations; on a quiet machine; JSON in target/bench
# make docs    writes the pages of the book that are made from the code, and the book itself where mdbook is installed
# demo, test and bench install what the machine lacks, saying so.

ROWS ?= 2000000

.PHONY: demo check test test-versions bench docs set-up set-up-test set-up-bench

demo: set-up
	cargo build --release
	"$${CARGO_TARGET_DIR:-target}/release/lockkeeper" demo --rows $(ROWS)

check: set-up
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace --exclude lockkeeper-cluster --lib --bins
	cargo test --workspace --test shape --test book

test: set-up-test
	scripts/test

test-versions: set-up-test
	for major in 13 14 15 16 17 18; do scripts/fetch-postgres $$major || exit 1; done
	LOCKKEEPER_VERSIONS=13,14,15,16,17,18 cargo test --workspace --test catalogue
	LOCKKEEPER_VERSIONS=13 cargo test --workspace --test batches without_a_key_on_13

bench: set-up-bench
	JSON="$${JSON:-$$(pwd)/target/bench}" cargo bench

docs:
	UPDATE_DOCS=1 cargo test --test book --test shape
	if command -v mdbook >/dev/null; then mdbook build docs; fi

set-up:
	scripts/set-up

# 15 is Debian 12's own; 18 no Debian has yet; 13 and 14 read or trust what later ones do not.
set-up-test:
	scripts/set-up test
	scripts/fetch-postgres 13
	scripts/fetch-postgres 14
	scripts/fetch-postgres 18
	test -x /usr/lib/postgresql/15/bin/postgres || scripts/fetch-postgres 15
	scripts/fetch-clients
	scripts/fetch-pg-dump

set-up-bench:
	scripts/set-up bench
	scripts/fetch-pg-dump
