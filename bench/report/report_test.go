package report

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/bench/result"
)

func sampleRun() result.Run {
	sample := func(rate float64, problem string) []result.Sample {
		return []result.Sample{{Values: map[result.Metric]float64{result.Rate: rate}, Problem: problem}}
	}
	return result.Run{Works: []result.Work{{
		Name: "drain", Title: "Drain <all> & more", Metric: result.Rate, Reference: channel,
		Outcomes: []result.Outcome{
			{Entrant: channel, Samples: sample(60_000, "")},
			{Entrant: router, Samples: sample(40_000, "")},
			{Entrant: wsql + "queue schema, best", Samples: sample(90_000, "lost 9 of 100")},
			{Entrant: wsql + "default schema, best", Samples: sample(20_000, "")},
		},
	}}}
}

func TestTables_MarkLossyContenderNotCompared(t *testing.T) {
	t.Parallel()
	text := Tables(sampleRun())
	require.Contains(t, text, "| **ezq/pgmq** | 60,000 |  |")
	require.Contains(t, text, "| watermill-sql default schema, best | 20,000 | 3.00× |")
	require.Contains(t, text, "| watermill-sql queue schema, best | – | not compared |")
	require.Contains(t, text, "- Not compared: watermill-sql queue schema, best: lost 9 of 100")
}

func TestTargets_StandBesideFigures(t *testing.T) {
	t.Parallel()
	text := Targets(sampleRun())
	require.Contains(t, text, "| `drain` | ezq/pgmq router ÷ ezq/pgmq | ≥ 0.80× | 0.67× | **missed** |")
	require.Contains(t, text, "| `drain` | ezq/pgmq ÷ watermill-sql default schema, best | ≥ 1.50× | 3.00× | met |")
	require.Contains(t, text, "not compared: drain: watermill-sql queue schema, best: lost 9 of 100")
}

func TestSummary_OmitsLossyContender(t *testing.T) {
	t.Parallel()
	require.Contains(t, Summary(sampleRun()), "| drain, handler does nothing | 60,000 | 40,000 | 20,000 |")
}

func TestPlot_IsWellFormedXML(t *testing.T) {
	t.Parallel()
	for name, text := range plots(sampleRun()) {
		decoder := xml.NewDecoder(strings.NewReader(text))
		for {
			_, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, name)
		}
		require.Contains(t, text, "not compared: lost 9 of 100")
	}
}

func TestNumber_IsFormattedForReaders(t *testing.T) {
	t.Parallel()
	for n, text := range map[float64]string{0.4567: "0.46", 12.34: "12.3", 999.6: "1,000", 1234567: "1,234,567"} {
		require.Equal(t, text, number(n))
	}
}
