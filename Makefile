# make demo    builds, and plays schema changes on a live table straight at PostgreSQL and through Lockkeeper
# make test    runs every test against real servers
# Both install what the machine lacks, saying so.

ROWS ?= 2000000

.PHONY: demo test set-up set-up-test

demo: set-up
	cargo build --release
	"$${CARGO_TARGET_DIR:-target}/release/lockkeeper" demo --rows $(ROWS)

test: set-up-test
	cargo test

set-up:
	scripts/set-up

# 15 is Debian 12's own; 18 no Debian has yet.
set-up-test:
	scripts/set-up test
	scripts/fetch-postgres 18
	test -x /usr/lib/postgresql/15/bin/postgres || scripts/fetch-postgres 15
	scripts/fetch-clients
