//go:build unix

package command

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// groupInterval is how often it is looked whether programs have ended.
const groupInterval = 20 * time.Millisecond

// asGroupOfProcesses has a command and the programs that it runs told to end, as those of go run, which ends before them.
// The function that it returns waits for all of them, and kills those that are there after that time.
func asGroupOfProcesses(command *exec.Cmd) (end func(within time.Duration)) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error {
		err := syscall.Kill(-command.Process.Pid, syscall.SIGTERM)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	return func(within time.Duration) {
		late, look := time.After(within), time.NewTicker(groupInterval)
		defer look.Stop()
		for syscall.Kill(-command.Process.Pid, 0) == nil {
			select {
			case <-look.C:
			case <-late:
				_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
				return
			}
		}
	}
}
