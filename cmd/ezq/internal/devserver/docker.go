package devserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// image has PostgreSQL with the extension pgmq.
const image = "ghcr.io/pgmq/pg17-pgmq:latest"

// ownerLabel is on the containers, and names the directory whose lock says that their process lives.
const ownerLabel = "ezq.dev.owner"

// startContainer starts the server in Docker.
func startContainer(ctx context.Context, c Config) (*Server, error) {
	if _, err := docker(ctx, "", "version", "--format", "{{.Server.Version}}"); err != nil {
		return nil, fmt.Errorf("no docker engine answers: %w", err)
	}
	removeContainers(ctx, c)
	dir, err := os.MkdirTemp(c.parent(), dirPrefix+"*")
	if err != nil {
		return nil, err
	}
	owner, err := lock(filepath.Join(dir, "owner"))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	password := rand.Text()
	c.Say("starting %s, which Docker fetches the first time", image)
	port := "127.0.0.1::5432"
	if c.Port != 0 && !isTaken(c.Port) {
		port = fmt.Sprintf("127.0.0.1:%d:5432", c.Port)
	}
	id, err := docker(ctx, "POSTGRES_PASSWORD="+password, "run", "--rm", "--detach", "--label", ownerLabel+"="+dir,
		"--env", "POSTGRES_PASSWORD", "--publish", port, image)
	remove := func() error {
		ctx, stop := context.WithTimeout(context.Background(), stopTimeout)
		defer stop()
		var failed error
		if id != "" {
			_, failed = docker(ctx, "", "rm", "--force", "--volumes", id)
		}
		return errors.Join(failed, os.RemoveAll(dir), owner.Close())
	}
	id = id[strings.LastIndex(id, "\n")+1:] // behind what a pull says
	var address string
	if err == nil {
		address, err = docker(ctx, "", "port", id, "5432/tcp")
	}
	if err == nil {
		address, _, _ = strings.Cut(address, "\n")
		u := url.URL{Scheme: "postgres", User: url.UserPassword("postgres", password), Host: address, Path: "postgres", RawQuery: "sslmode=disable"}
		address, err = u.String(), waitFor(ctx, u.String())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("docker: %w", err), remove())
	}
	return &Server{URL: address, remove: remove}, nil
}

// docker runs the client of Docker, with a variable that is not in its arguments, and returns what it prints.
func docker(ctx context.Context, variable string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, "docker", args...) //nolint:gosec // arguments of ours
	if variable != "" {
		command.Env = append(os.Environ(), variable)
	}
	out, err := command.Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		err = errors.New(strings.TrimSpace(string(failed.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}

// startTimeout is how long a server in a container may take until it answers.
const startTimeout = time.Minute

// waitFor waits until the server answers. The image starts it twice.
func waitFor(ctx context.Context, address string) error {
	ctx, stop := context.WithTimeout(ctx, startTimeout)
	defer stop()
	for again := time.NewTicker(100 * time.Millisecond); ; {
		conn, err := pgx.Connect(ctx, address)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return errors.New("the server in the container does not answer")
		}
	}
}

// removeContainers removes those whose processes are gone. Their directories are gone by now.
func removeContainers(ctx context.Context, c Config) {
	found, err := docker(ctx, "", "ps", "--all", "--filter", "label="+ownerLabel, "--format", `{{.ID}} {{.Label "`+ownerLabel+`"}}`)
	if err != nil {
		return
	}
	for line := range strings.Lines(found) {
		id, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		if _, err := os.Lstat(dir); id == "" || !errors.Is(err, os.ErrNotExist) {
			continue
		}
		c.Say("removing the container %s, whose process is gone", id)
		if _, err := docker(ctx, "", "rm", "--force", "--volumes", id); err != nil {
			c.Say("it cannot be removed: %v", err)
		}
	}
}
