package subscription

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOutage_LogsFewOfManyShortOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		o := newOutage(Config{Topic: "t", Logger: slog.New(slog.NewTextHandler(&log, nil))}, nil)
		time.Sleep(time.Hour)
		for range 3600 {
			o.failed(errors.New("refused"), time.Second)
			time.Sleep(500 * time.Millisecond)
			o.ended()
			time.Sleep(500 * time.Millisecond)
		}
		require.LessOrEqual(t, strings.Count(log.String(), "cannot fetch"), 70, "one a minute, after the first ones")
		require.Equal(t, strings.Count(log.String(), "cannot fetch"), strings.Count(log.String(), "receiving again"))
		time.Sleep(2 * time.Minute)
		log.Reset()
		o.failed(errors.New("refused"), time.Second)
		o.ended()
		require.Contains(t, log.String(), "cannot fetch", "another outage is news")
	})
}
