// Package official gets what others publish and ezq does not contain: the SQL of PGMQ, and programs of PostgreSQL. All
// of it is of pinned versions, and is compared with a checksum before it is used.
package official

import (
	"fmt"
	"strconv"
	"strings"
)

// Release is a version of PGMQ, and where its SQL is.
type Release struct {
	Version       string
	SHA256        string // of the SQL that installs it
	Package       Package
	PackageSHA256 string
}

// Pinned is the release that this version of ezq installs. Its npm package has the SQL unchanged, and the scripts that
// update each version to the next.
func Pinned() Release {
	return Release{
		Version:       "1.11.1",
		SHA256:        "71cf82eaf1d81394a99f56ddf184c3dc8bf5eeb6f204ef9bad6e146e141eca2e",
		Package:       Package{"@electric-sql/pglite-pgmq", "0.0.6"},
		PackageSHA256: "f0f15fa7fe83cce940f6fce4b5115da7e68c9118463bf584b5dcc5b95912660b",
	}
}

// Oldest is the oldest version of PGMQ that ezq works with.
const Oldest = "1.5.0"

// Older reports whether one version is older than another.
func Older(one, other string) bool {
	a, b := strings.Split(one, "."), strings.Split(other, ".")
	for i := range max(len(a), len(b)) {
		if x, y := number(a, i), number(b, i); x != y {
			return x < y
		}
	}
	return false
}

func number(parts []string, i int) int {
	if i >= len(parts) {
		return 0
	}
	n, _ := strconv.Atoi(parts[i]) // what is no number counts as 0
	return n
}

// Bundle is the SQL of a release.
type Bundle struct {
	Version string // "" if that is not known
	Install string
	Updates []Update // none if only the SQL was given that installs it
}

// Update is a script that updates one version to the next.
type Update struct{ From, To, SQL string }

// Path returns the scripts from a version to that of the bundle, in their order.
func (b Bundle) Path(from string) (path []Update, err error) {
	for at := from; at != b.Version; {
		next, ok := b.next(at)
		if !ok {
			return nil, fmt.Errorf("there is no script that updates PGMQ %s, on the way from %s to %s: update it by hand,"+
				" with the scripts of https://github.com/pgmq/pgmq", at, from, b.Version)
		}
		path, at = append(path, next), next.To
	}
	return path, nil
}

func (b Bundle) next(from string) (Update, bool) {
	for _, update := range b.Updates {
		if update.From == from && !Older(update.To, from) && !Older(b.Version, update.To) {
			return update, true
		}
	}
	return Update{}, false
}
