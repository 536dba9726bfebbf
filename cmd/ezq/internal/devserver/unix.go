//go:build unix

package devserver

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// serverUser is the user in whose name root runs a server, which PostgreSQL refuses to do in root's.
const serverUser = "postgres"

// canRun returns why this user can run no server, or nil.
func canRun() error {
	_, err := serverIDs()
	return err
}

// serverIDs returns the server's user, or nil if that is ours.
func serverIDs() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	found, err := user.Lookup(serverUser)
	if err != nil {
		return nil, errors.New("PostgreSQL refuses to run as root, and there is no user named " + serverUser + ": create it, as with useradd --system " + serverUser +
			", or run this command as another user")
	}
	uid, err := strconv.ParseUint(found.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(found.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// giveToServer makes a path the property of the server's user.
func giveToServer(path string) error {
	ids, err := serverIDs()
	if err != nil || ids == nil {
		return err
	}
	return os.Chown(path, int(ids.Uid), int(ids.Gid))
}

// asServer has a command run as the server's user.
func asServer(command *exec.Cmd) error {
	ids, err := serverIDs()
	// A Ctrl-C is for ezq, and not for its server: that stops when ezq stops it.
	command.SysProcAttr = &syscall.SysProcAttr{Credential: ids, Setpgid: true}
	return err
}

// lockFile locks a file until it is closed, as when the process ends. It is an error if another process has locked it.
func lockFile(file *os.File) error {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// isOurs reports whether a file belongs to the user of this process.
func isOurs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

func isDiskFull(err error) bool { return errors.Is(err, syscall.ENOSPC) }
