//go:build !unix

package command

import "os/exec"

// Elsewhere the command alone is told to end.
func asGroupOfProcesses(*exec.Cmd) {}
