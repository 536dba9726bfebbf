package cluster

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// segments returns the numbers of the segments of shared memory that there are.
func segments(t *testing.T) (numbers []string) {
	t.Helper()
	out, err := exec.Command("ipcs", "-m").Output()
	if err != nil {
		t.Skip("there is no ipcs: ", err)
	}
	for line := range strings.Lines(string(out)) {
		if words := strings.Fields(line); len(words) > 1 {
			numbers = append(numbers, words[1])
		}
	}
	return numbers
}

func TestCluster_WhenKilledLeavesNoSharedMemory(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]bool{"the server is killed": true, "the server is stopped": false} {
		var id string
		t.Run(name, func(t *testing.T) {
			c := Start(t)
			id = c.sharedMemory()
			if !slices.Contains(segments(t), id) {
				t.Fatalf("there is no segment %q", id)
			}
			if kill {
				c.Kill9()
			}
		})
		if slices.Contains(segments(t), id) {
			t.Errorf("%s: the segment %s is still there", name, id)
		}
	}
}
