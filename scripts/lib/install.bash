# shellcheck shell=bash
# Part of scripts/pgmq: finding what it needs, and installing what is not there.

pgmq_version=1.11.1
pgmq_sql_sha256=71cf82eaf1d81394a99f56ddf184c3dc8bf5eeb6f204ef9bad6e146e141eca2e
npm_package=@electric-sql/pglite-pgmq@0.0.6 # carries PGMQ's SQL, unchanged
npm_package_sha256=f0f15fa7fe83cce940f6fce4b5115da7e68c9118463bf584b5dcc5b95912660b

install() {
	find_postgres || install_postgres
	[ "$(id -u)" -ne 0 ] || id postgres >/dev/null 2>&1 || missing "PostgreSQL refuses to run as root: create a user named postgres"
	install_pgmq_sql
}

install_pgmq_sql() {
	if [ -n "${EZQ_PGMQ_SQL:-}" ]; then
		[ -r "$EZQ_PGMQ_SQL" ] || fail "cannot read EZQ_PGMQ_SQL=$EZQ_PGMQ_SQL"
		EZQ_PGMQ_SQL=$(cd "$(dirname "$EZQ_PGMQ_SQL")" && pwd)/$(basename "$EZQ_PGMQ_SQL")
		return
	fi
	EZQ_PGMQ_SQL=$cache/pgmq--$pgmq_version.sql
	has_sha256 "$EZQ_PGMQ_SQL" "$pgmq_sql_sha256" || fetch_pgmq_sql
}

bin= # the directory of PostgreSQL's programs

find_postgres() {
	local candidate candidates
	candidates=$(postgres_candidates)
	while read -r candidate; do
		if [ -x "$candidate/initdb" ] && [ -x "$candidate/pg_ctl" ] && [ -x "$candidate/postgres" ] && [ -x "$candidate/psql" ]; then
			bin=$candidate
			return 0
		fi
	done <<<"$candidates"
	return 1
}

postgres_candidates() {
	if [ -n "${EZQ_POSTGRES_BIN:-}" ]; then
		echo "$EZQ_POSTGRES_BIN"
		return
	fi
	case $(command -v initdb) in
	/*) dirname "$(command -v initdb)" ;; # and not of where we are, which may be a directory of others
	esac
	pg_config --bindir 2>/dev/null || true
	printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
		/opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin | sort -rV
}

# Debian's package starts a server of its own on port 5432 unless told otherwise.
install_postgres() {
	local rule=/etc/postgresql-common/createcluster.d/ezq.conf
	[ -z "${EZQ_POSTGRES_BIN:-}" ] || missing "EZQ_POSTGRES_BIN=$EZQ_POSTGRES_BIN does not hold initdb, pg_ctl, postgres and psql"
	can_apt || missing "PostgreSQL's server programs (initdb, pg_ctl, postgres, psql) are needed: install the package postgresql, or set EZQ_POSTGRES_BIN to their directory"
	say "installing PostgreSQL"
	mkdir -p "${rule%/*}"
	echo 'create_main_cluster = false' >"$rule"
	apt_install postgresql || say "apt-get could not install PostgreSQL"
	rm -f "$rule"
	find_postgres || missing "PostgreSQL's server programs are still not there: install them, and set EZQ_POSTGRES_BIN to their directory"
}

can_apt() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }

# What apt-get says is long, and of interest only if it fails.
apt_install() {
	local log
	log=$(apt_get update && apt_get install -y --no-install-recommends "$@") || {
		echo "$log" >&2
		return 1
	}
}

apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -q "$@" 2>&1 </dev/null; }

fetch_pgmq_sql() (
	if ! command -v npm >/dev/null; then
		can_apt || missing "PGMQ's SQL comes as an npm package: install npm, or set EZQ_PGMQ_SQL to a copy of pgmq--$pgmq_version.sql"
		say "installing npm"
		apt_install npm || missing "apt-get could not install npm"
	fi
	mkdir -p "$cache"
	work=$(mktemp -d "$cache/fetch.XXXXXX") # beside its destination, so that mv is one step
	trap 'rm -rf "$work"' EXIT
	cd "$work"
	say "fetching PGMQ $pgmq_version"
	npm pack --loglevel=error --no-update-notifier --cache "$work/npm" "$npm_package" >/dev/null || missing "npm could not fetch $npm_package: is there a network?"
	has_sha256 ./*.tgz "$npm_package_sha256" || fail "$npm_package does not have the expected checksum"
	tar -xzf ./*.tgz package/dist/pgmq.tar.gz
	tar -xzf package/dist/pgmq.tar.gz
	has_sha256 share/postgresql/extension/pgmq--$pgmq_version.sql "$pgmq_sql_sha256" || fail "PGMQ's SQL does not have the expected checksum"
	mv share/postgresql/extension/pgmq--$pgmq_version.sql "$EZQ_PGMQ_SQL"
)

has_sha256() {
	local file=$1 want=$2 got
	[ -r "$file" ] || return 1
	got=$( (sha256sum "$file" 2>/dev/null || shasum -a 256 "$file") | cut -d' ' -f1)
	[ "$got" = "$want" ]
}
