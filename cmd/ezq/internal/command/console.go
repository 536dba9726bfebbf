package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
	"github.com/ezq-go/ezq/console"
	"github.com/ezq-go/ezq/internal/demo"
)

// consoleFlags are the flags of ezq console.
type consoleFlags struct {
	listen string
	title  string
	rights console.Rights
	remote bool
	demo   bool
}

func newConsole(s *session) *cobra.Command {
	f := consoleFlags{rights: console.ReadOnly()}
	cmd := &cobra.Command{
		Use: "console", Short: "Show the queues in a browser", Args: none(),
		Long: `Show the queues in a browser, until it is stopped. It shows messages with what they say, and changes nothing without --allow.

It has no authentication: every program and user that reaches its address sees what it shows, and may do what --allow
names. So it listens on this machine alone. To serve it to others, mount the package console in a program that has
authentication, or put this one behind a proxy that has, and say so with --allow-remote. docs/console.md has both.`,
	}
	cmd.Flags().StringVar(&f.listen, "listen", "127.0.0.1:8420", "the address and the port")
	cmd.Flags().StringVar(&f.title, "title", "", "which system this is, as in production")
	cmd.Flags().Var(&funcValue{kind: "rights", reads: func(text string) error { return readRights(text, &f.rights) }}, "allow",
		"what may be changed: redrive, edit, purge, pause, cancel, separated by commas")
	cmd.Flags().BoolVar(&f.remote, "allow-remote", false, "listen on an address that other machines reach, behind a proxy that authenticates")
	cmd.Flags().BoolVar(&f.demo, "demo", false, "show a shop in memory, and no database")
	s.runsOn(cmd, func(ctx context.Context, _ []string) error { return serveConsole(ctx, s, f) })
	return cmd
}

// readRights adds the rights to change what text names.
func readRights(text string, rights *console.Rights) error {
	for name := range strings.SplitSeq(text, ",") {
		switch strings.TrimSpace(name) {
		case "redrive":
			rights.Redrive = true
		case "edit":
			rights.Edit = true
		case "purge":
			rights.Purge = true
		case "pause":
			rights.Pause = true
		case "cancel":
			rights.Cancel = true
		default:
			return errors.New("name some of redrive, edit, purge, pause and cancel, with commas between them")
		}
	}
	return nil
}

// serveConsole serves the console until ctx ends.
func serveConsole(ctx context.Context, s *session, f consoleFlags) error {
	loopback := isLoopback(f.listen)
	if !loopback && !f.remote {
		return wrong("--listen %s: other machines may reach that address, and the console has no authentication: use 127.0.0.1, or put it behind a proxy that authenticates and add --allow-remote", terminal.SingleLine(f.listen))
	}
	client, err := consoleClient(ctx, s, f.demo)
	if err != nil {
		return err
	}
	by := consoleUser(userName())
	c, err := console.New(client, &console.Config{
		Title:  cmp.Or(f.title, map[bool]string{true: "demo"}[f.demo]),
		Allow:  func(*http.Request) console.Rights { return f.rights },
		User:   func(*http.Request) string { return by },
		Logger: slog.New(slog.NewTextHandler(s.Err, nil)),
	})
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.listen)
	if err != nil {
		return errors.Join(fmt.Errorf("%w: choose another port with --listen", err), c.Close())
	}
	var handler http.Handler = c
	if loopback {
		handler = ofThisMachine(c)
	}
	s.printf("The console is at http://%s/. It ends with Ctrl-C.\n", listener.Addr())
	return serveUntil(ctx, &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}, listener, c)
}

// consoleUser returns who changes something from the console, which has no users: the user of the machine, who has started it.
func consoleUser(name string) string {
	if name == "" {
		return "ezq console"
	}
	return name + " with ezq console"
}

// serveUntil serves until ctx ends, and then lets requests finish.
func serveUntil(ctx context.Context, server *http.Server, listener net.Listener, c *console.Console) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	closed := c.Close() // which ends what keeps pages up to date
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, closed, server.Shutdown(ending))
}

// consoleClient returns what the console shows.
func consoleClient(ctx context.Context, s *session, isDemo bool) (any, error) {
	if !isDemo {
		s.name = "ezq-console"
		return s.client(ctx)
	}
	shop := demo.New(uint64(time.Now().UnixNano()))
	ended := make(chan struct{})
	open, stop := context.WithCancel(ctx)
	go func() {
		defer close(ended)
		_ = shop.Run(open) // what fails there is what it shows
	}()
	s.closeLater(func() {
		stop()
		<-ended
	})
	return shop.Broker(), nil
}

// isLoopback reports whether only this machine reaches an address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// ofThisMachine refuses requests that name another host: a site can have its own name lead to this machine, and its pages would
// read the console's.
func ofThisMachine(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); host != "localhost" && (err != nil || !ip.IsLoopback()) {
			http.Error(w, "the console is for this machine: open it at 127.0.0.1 or localhost", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}
