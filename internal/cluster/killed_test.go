package cluster

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// A process that has the output of the script open is still there.
func TestScripts_EndCommandWhenKilled(t *testing.T) {
	t.Parallel()
	needBash(t)
	for name, whole := range map[string]bool{"the script is killed alone": false, "the script is killed with its process group": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScript(t)
			command := exec.CommandContext(t.Context(), "../../scripts/pgmq", "run", "--fast", "sh", "-c", "sleep 1000 & echo $$; wait")
			command.Env, command.SysProcAttr = s.env, &syscall.SysProcAttr{Setpgid: true}
			output, err := command.StdoutPipe()
			s.check(err)
			s.check(command.Start())
			var running int
			lines := bufio.NewReader(output)
			_, err = fmt.Fscanln(lines, &running)
			s.check(err)

			ended := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, lines)
				ended <- err
			}()
			script := command.Process.Pid
			if whole {
				script = -script
			}
			s.check(syscall.Kill(script, syscall.SIGKILL))
			select {
			case err := <-ended:
				s.check(err)
			case <-time.After(time.Minute):
				t.Error("what it ran goes on")
				s.check(syscall.Kill(-running, syscall.SIGKILL))
				t.Log("it was killed and ended with", <-ended)
			}
			_ = command.Wait() // it says that it was killed
			if output, _, err := s.run("run", "--fast", "true"); err != nil {
				t.Errorf("what it has left is in the way: %v: %s", err, output)
			}
		})
	}
}
