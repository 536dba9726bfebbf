package pgmq

import (
	"context"
	"log/slog"

	"github.com/ThreeDotsLabs/watermill"
)

// newSlogLogger returns a logger that writes to what a Watermill program logs with.
func newSlogLogger(logger watermill.LoggerAdapter) *slog.Logger {
	if logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(watermillHandler{logger})
}

type watermillHandler struct{ logger watermill.LoggerAdapter }

func (h watermillHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h watermillHandler) Handle(_ context.Context, record slog.Record) error {
	fields := watermill.LogFields{}
	var failure error
	record.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok && a.Key == "error" {
			failure = err
		} else {
			fields[a.Key] = a.Value.Any()
		}
		return true
	})
	switch {
	case record.Level >= slog.LevelError:
		h.logger.Error(record.Message, failure, fields)
	case record.Level >= slog.LevelWarn:
		fields["error"] = failure
		h.logger.Info(record.Message, fields)
	default:
		h.logger.Debug(record.Message, fields)
	}
	return nil
}

func (h watermillHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	fields := watermill.LogFields{}
	for _, a := range attrs {
		fields[a.Key] = a.Value.Any()
	}
	return watermillHandler{h.logger.With(fields)}
}

func (h watermillHandler) WithGroup(string) slog.Handler { return h }
