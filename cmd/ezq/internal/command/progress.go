package command

import (
	"context"
	"time"

	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

// progressInterval is the time between two lines of progress.
const progressInterval = time.Second

// withProgress shows what state says while work runs: in one line of Err, which is written anew, if that is a terminal. The
// line is gone when work has ended. A state of "" shows nothing.
func withProgress(ctx context.Context, s *session, state func(context.Context) string, work func() error) error {
	if !terminal.Is(s.Err) {
		return work()
	}
	return showProgress(ctx, s, state, work)
}

func showProgress(ctx context.Context, s *session, state func(context.Context) string, work func() error) error {
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(progressInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				_, _ = s.Err.Write([]byte("\r\x1b[K"))
				return
			case <-ticker.C:
			}
			if text := terminal.SingleLine(state(ctx)); text != "" && ctx.Err() == nil {
				_, _ = s.Err.Write([]byte("\r\x1b[K" + text))
			}
		}
	}()
	defer func() {
		stop()
		<-ended
	}()
	return work()
}
