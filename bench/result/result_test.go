package result

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func outcome(entrant string, metric Metric, values ...float64) Outcome {
	o := Outcome{Entrant: entrant}
	for round, v := range values {
		o.Samples = append(o.Samples, Sample{Round: round, Values: map[Metric]float64{metric: v}})
	}
	return o
}

func TestRatio_IsMedianOfRounds(t *testing.T) {
	t.Parallel()
	w := Work{Outcomes: []Outcome{
		outcome("a", Rate, 200, 20, 900), // the machine was busy in the second round
		outcome("b", Rate, 100, 5, 300),
	}}
	ratio, err := w.Ratio(Rate, "a", "b")
	require.NoError(t, err)
	require.InDelta(t, 3, ratio, 1e-9)
}

func TestRatio_AboveOneIsBetterForLatency(t *testing.T) {
	t.Parallel()
	w := Work{Outcomes: []Outcome{outcome("a", P50, 1, 1), outcome("b", P50, 4, 4)}}
	ratio, err := w.Ratio(P50, "a", "b")
	require.NoError(t, err)
	require.InDelta(t, 4, ratio, 1e-9)
}

func TestRatio_RefusesFaultyContender(t *testing.T) {
	t.Parallel()
	bad := outcome("bad", Rate, 900, 900, 900)
	bad.Samples[1].Problem = "lost 3 of 100"
	w := Work{Name: "drain", Outcomes: []Outcome{outcome("good", Rate, 100, 100, 100), bad}}
	for _, pair := range [][2]string{{"good", "bad"}, {"bad", "good"}} {
		_, err := w.Ratio(Rate, pair[0], pair[1])
		var refused *RefusedError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "drain: bad: lost 3 of 100", refused.Error())
	}
	_, err := w.Ratio(Rate, "good", "absent")
	require.ErrorContains(t, err, "absent: it was not measured")
	_, err = w.Ratio(P50, "good", "good")
	require.Error(t, err, "what was not measured cannot be compared")
}

func TestRun_SurvivesSaveAndLoad(t *testing.T) {
	t.Parallel()
	run := Run{Works: []Work{{Name: "w", Outcomes: []Outcome{outcome("a", Rate, 1.5)}}}}
	file := filepath.Join(t.TempDir(), "results.json")
	require.NoError(t, run.Save(file))
	read, err := Load(file)
	require.NoError(t, err)
	require.Equal(t, run, read)
}
