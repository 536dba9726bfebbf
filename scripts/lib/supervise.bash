# shellcheck shell=bash
# Part of the scripts: running a command and staying in charge of it.

# How long a command has, in seconds, to end what it has started. What is supervised may supervise,
# so the inner one has less.
patience=10

child= # the running command, as kill wants it: a process, or with a minus its process group

stop_on() {
	local signal
	for signal in "$@"; do
		# shellcheck disable=SC2064 # the signal's name is meant to be filled in now
		trap "stopped_by $signal" "$signal"
	done
}

stopped_by() {
	trap '' INT QUIT TERM HUP
	[ -z "$child" ] || end_child
	exit $((128 + $(kill -l "$1")))
}

# At a terminal the command may read what is typed, and a Ctrl-C is for the command to answer.
# Elsewhere it gets a process group of its own: a signal to this script then ends the command
# together with everything that it has started.
supervise() {
	local status
	[ -e /dev/fd/0 ] || exec </dev/null # it may have been closed
	exec 9> >(set -m; outlive <&0 &)
	if [ -t 0 ]; then
		trap : INT QUIT
		(trap - INT QUIT && begin "$BASHPID" "$@") <&0 &
		child=$!
	else
		set -m
		(begin "-$BASHPID" "$@") <&0 &
		set +m
		child=-$!
	fi
	while true; do
		wait "${child#-}" && status=0 || status=$?
		kill -0 "${child#-}" 2>/dev/null || break # else a signal has interrupted the waiting
	done
	bequeath ''
	exec 9>&-
	return "$status"
}

# begin becomes the command, once it has told whom to end. A function is one of this shell.
begin() {
	bequeath "$1"
	shift
	exec 9>&-
	[ "$(type -t "$1")" != file ] || exec "$@"
	"$@"
}

# outlive ends the command if this script was killed with SIGKILL. It reads from a pipe that no
# other process writes to, which ends with the script, and is in a process group of its own, which a signal to
# that of the script does not reach.
outlive() {
	local told
	child=
	while read -r told; do child=$told; done
	[ -z "$child" ] || end_child
}

# bequeath tells it what to end: nothing once the command has ended.
bequeath() { (echo "$1" >&9) 2>/dev/null || true; }

# SIGTERM, whatever the signal was: what a shell runs in the background ignores SIGINT.
end_child() {
	kill -s TERM -- "$child" 2>/dev/null || true
	for _ in $(seq $((10 * patience))); do
		kill -0 -- "$child" 2>/dev/null || return 0
		sleep 0.1
	done
	say "the command does not react to SIGTERM: killing it"
	kill -s KILL -- "$child" 2>/dev/null || true
}
