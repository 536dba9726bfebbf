//go:build !unix

package devserver

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
)

// Elsewhere a server runs in Docker only.
func canRun() error {
	return errors.New("ezq dev starts PostgreSQL's programs on Unix systems only: on this one it needs Docker")
}

func giveToServer(string) error { return nil }

func asServer(*exec.Cmd) error { return nil }

func lockFile(*os.File) error { return nil }

func isOurs(fs.FileInfo) bool { return false }

func isDiskFull(error) bool { return false }
