package command

import (
	"errors"
	"os/exec"
	"syscall"
)

// errNotBegun is why a command was not run.
var errNotBegun = errors.New("dev was told to end before it could run")

// childError is why a command that was run has failed.
type childError struct {
	name string
	err  error
}

func (e *childError) Error() string { return e.name + ": " + e.err.Error() }

func (e *childError) Unwrap() error { return e.err }

// code is the exit code of the command, as a shell has it: 128 and the number of the signal that ended it, 127 if there
// is no such command.
func (e *childError) code() int {
	exit, ok := errors.AsType[*exec.ExitError](e.err)
	if !ok {
		return 127
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}
