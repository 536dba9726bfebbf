package ezq

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEndEvent_TimeoutIsInSeconds(t *testing.T) {
	t.Parallel()
	for wire, want := range map[string]time.Duration{
		`{"_type":"EZQEndEvent"}`:                                 0,
		`{"_type":"EZQEndEvent","timeout":null}`:                  0,
		`{"_type":"EZQEndEvent","timeout":0}`:                     0,
		`{"_type":"EZQEndEvent","timeout":-0.0}`:                  0,
		`{"_type":"EZQEndEvent","timeout":10}`:                    10 * time.Second,
		`{"timeout": 10.0, "_type": "EZQEndEvent"}`:               10 * time.Second,
		`{"_type":"EZQEndEvent","timeout":1.5,"scope":"group"}`:   1500 * time.Millisecond,
		`{"_type":"EZQEndEvent","timeout":1e1}`:                   10 * time.Second,
		`{"_type":"EZQEndEvent","timeout":2.5E-1}`:                250 * time.Millisecond,
		`{"_type":"EZQEndEvent","timeout":1e-400}`:                0,
		`{"_type":"EZQEndEvent","timeout":0.1000000000000000055}`: 100 * time.Millisecond,
		`{"_type":"EZQEndEvent","timeout":9223372036.854775807}`:  math.MaxInt64,
	} {
		event, err := decode[EndEvent]("EZQEndEvent", []byte(wire))
		require.NoError(t, err, wire)
		require.Equal(t, want, event.Timeout, wire)
	}
}

func TestEndEvent_InvalidTimeoutIsDecodeError(t *testing.T) {
	t.Parallel()
	for timeout, why := range map[string]string{
		`-1`:                   "the timeout is negative",
		`-1e400`:               "is negative",
		`-0.0000000001`:        "is negative",
		`9223372036.854775808`: "is longer than 292 years",
		`1e10`:                 "is longer than 292 years",
		`1e400`:                "is longer than 292 years",
		`"10"`:                 `the timeout is not a number of seconds`,
		`"1e1"`:                "is not a number of seconds",
		`true`:                 "is not a number of seconds",
		`[10]`:                 "is not a number of seconds",
		`{"seconds":1}`:        "is not a number of seconds",
	} {
		_, err := decode[EndEvent]("EZQEndEvent", []byte(`{"_type":"EZQEndEvent","timeout":`+timeout+`}`))
		var failed *DecodeError
		require.ErrorAs(t, err, &failed, timeout)
		require.ErrorContains(t, err, why)
	}
}

func TestEndEvent_NegativeTimeoutIsNotPublished(t *testing.T) {
	t.Parallel()
	_, _, err := encode(EndEvent{Timeout: -time.Second})
	require.ErrorContains(t, err, "the timeout -1s is negative")
}

func FuzzTimeout_SurvivesJourney(f *testing.F) {
	for _, d := range []time.Duration{0, 1, time.Second, time.Second + 1, 10 * time.Second, 1e18 + 1, math.MaxInt64} {
		f.Add(int64(d), "10.0")
	}
	for _, text := range []string{"", "null", "-1", "1e400", "0x1p4", "Inf", "NaN", `"1"`, "1h", "1_0", "9223372036.854775808"} {
		f.Add(int64(0), text)
	}
	f.Fuzz(func(t *testing.T, d int64, text string) {
		if d >= 0 {
			back, err := parseSeconds(formatSeconds(time.Duration(d)))
			require.NoError(t, err)
			require.Equal(t, time.Duration(d), back)
		}
		if d, err := parseSeconds(text); err == nil {
			require.GreaterOrEqual(t, d, time.Duration(0))
		}
	})
}
