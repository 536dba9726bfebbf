//go:build !unix

package command

import (
	"os/exec"
	"time"
)

// Elsewhere the command alone is told to end, and waited for.
func asGroupOfProcesses(*exec.Cmd) (end func(within time.Duration)) { return func(time.Duration) {} }
