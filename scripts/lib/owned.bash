# shellcheck shell=bash
# Part of the scripts: what is ours on a machine with other users, and who runs a server.

# is_ours says that a directory or a file is no link, and belongs to the user who runs this. Others
# cannot put something else in its place then: /tmp lets them remove only what is theirs.
is_ours() { [ -O "$1" ] && [ ! -L "$1" ]; }

# keeps_others_out says that no other user can rename or remove what we make in a directory, and put something else in its
# place: it belongs to us or to root, and is sticky if all may write there.
keeps_others_out() {
	local mode owner
	read -r mode _ owner _ < <(ls -ldn "$1/." 2>/dev/null) || return 1
	[ "$owner" -eq 0 ] || [ "$owner" -eq "$(id -u)" ] || return 1
	case $mode in
	????????w*) [ -k "$1" ] ;;
	esac
}

# is_abandoned says that a directory is ours, and that the process is gone that it names in owner.
is_abandoned() {
	local owner=$1/owner
	is_ours "$1" && is_ours "$owner" && [ -s "$owner" ] && ! kill -0 "$(<"$owner")" 2>/dev/null
}

# cache_directory prints where to keep what was fetched. Without a home it is in /tmp, where
# another user may have made a directory of that name, and put anything into it.
cache_directory() {
	local own=${TMPDIR:-/tmp}/ezq-$(id -u)
	if [ -z "${XDG_CACHE_HOME:-}${HOME:-}" ]; then
		mkdir -m 700 "$own" 2>/dev/null || true
		keeps_others_out "${TMPDIR:-/tmp}" && is_ours "$own" && [ -d "$own" ] && chmod 700 "$own" ||
			fail "$own is not a directory of yours: set HOME or XDG_CACHE_HOME"
	fi
	echo "${XDG_CACHE_HOME:-${HOME:-$own}/.cache}/ezq"
}

# as_user runs a program in the place of this shell, as root in the name of a user with fewer
# rights.
as_user() {
	local user=$1
	shift
	cd /
	if [ "$(id -u)" -ne 0 ]; then
		exec "$@"
	elif command -v setpriv >/dev/null; then
		exec setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups -- "$@"
	else
		exec runuser -u "$user" -- "$@"
	fi
}

# give leaves something to a user that a server runs as, if it is not ours.
give() {
	local user=$1
	shift
	[ "$(id -u)" -ne 0 ] || chown -R "$user:" "$@"
}

# new_password prints 96 random bits. Others on this machine can reach our ports too.
new_password() { od -An -N12 -tx1 /dev/urandom | tr -d ' \n'; }
