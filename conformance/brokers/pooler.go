package brokers

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// startPooler starts PgBouncer in front of the server of database, in transaction mode,
// with fewer connections than it has clients. It returns the database's URL through it.
func startPooler(ctx context.Context, database string) (through string, stop func() error, err error) {
	program, err := findPooler()
	if err != nil {
		return "", nil, err
	}
	u, err := url.Parse(database)
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("/tmp", "ezq-pgbouncer.*") // PgBouncer's user has no way into others
	if err != nil {
		return "", nil, err
	}
	server := u.Host
	if u.Host, err = freeAddress(ctx); err != nil {
		return "", nil, err
	}
	settings := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(settings, poolerSettings(server, u), 0o600); err != nil {
		return "", nil, err
	}
	command := exec.CommandContext(context.WithoutCancel(ctx), program, "-q", settings)
	command.Stderr = os.Stderr
	if command.SysProcAttr, err = asPostgres(dir, settings); err != nil {
		return "", nil, err
	}
	if err := command.Start(); err != nil {
		return "", nil, err
	}
	stop = func() error {
		_ = command.Process.Kill() // it may have failed
		_ = command.Wait()
		return os.RemoveAll(dir)
	}
	return u.String(), stop, awaitServer(ctx, u.Host)
}

func poolerSettings(server string, through *url.URL) []byte {
	host, port, _ := net.SplitHostPort(server)
	_, listenPort, _ := net.SplitHostPort(through.Host)
	password, _ := through.User.Password()
	return fmt.Appendf(nil, `[databases]
* = host=%s port=%s user=%s password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 10
max_client_conn = 1000
log_connections = 0
log_disconnections = 0
`, host, port, through.User.Username(), password, listenPort)
}

func findPooler() (string, error) {
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", &MissingError{What: "PgBouncer", Remedy: "install the package pgbouncer"}
}

// asPostgres gives the paths to the user postgres, and says how to run as that user:
// PgBouncer refuses to run as root.
func asPostgres(paths ...string) (*syscall.SysProcAttr, error) {
	if os.Geteuid() != 0 {
		return &syscall.SysProcAttr{}, nil
	}
	postgres, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.Atoi(postgres.Uid)
	gid, _ := strconv.Atoi(postgres.Gid)
	for _, path := range paths {
		if err := os.Chown(path, uid, gid); err != nil {
			return nil, err
		}
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

func freeAddress(ctx context.Context) (string, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func awaitServer(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("PgBouncer does not answer: %w", err)
		}
	}
}
