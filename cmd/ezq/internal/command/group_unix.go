//go:build unix

package command

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// asGroupOfProcesses has a command and the programs that it runs told to end, as those of go run.
func asGroupOfProcesses(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error {
		err := syscall.Kill(-command.Process.Pid, syscall.SIGTERM)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
}
