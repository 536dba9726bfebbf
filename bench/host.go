package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/bench/result"
	"github.com/ezq-go/ezq/bench/work"
)

// measure runs the works on the server at url.
func measure(ctx context.Context, url string, scale work.Scale, works []work.Work) (result.Run, error) {
	started := time.Now()
	host, err := describeHost(ctx, url)
	if err != nil {
		return result.Run{}, err
	}
	lab, err := work.NewLab(ctx, url, scale)
	if err != nil {
		return result.Run{}, err
	}
	defer lab.Close()
	results, err := lab.Run(ctx, works, os.Stderr)
	return result.Run{
		Started: started.UTC().Truncate(time.Second),
		Seconds: time.Since(started).Round(time.Second).Seconds(),
		Host:    host,
		Works:   results,
	}, err
}

func describeHost(ctx context.Context, url string) (result.Host, error) {
	host := result.Host{
		Cores:    runtime.NumCPU(),
		System:   runtime.GOOS + "/" + runtime.GOARCH,
		Versions: map[string]string{"Go": strings.TrimPrefix(runtime.Version(), "go")},
		Settings: make(map[string]string),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			switch module.Path {
			case "github.com/ThreeDotsLabs/watermill", "github.com/ThreeDotsLabs/watermill-sql/v4",
				"github.com/riverqueue/river", "github.com/jackc/pgx/v5":
				host.Versions[module.Path] = module.Version
			}
		}
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return host, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, setting := range []string{
		"server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "wal_level",
	} {
		var value string
		if err := conn.QueryRow(ctx, "select current_setting($1)", setting).Scan(&value); err != nil {
			return host, fmt.Errorf("read the setting %s: %w", setting, err)
		}
		host.Settings[setting] = value
	}
	return host, nil
}
