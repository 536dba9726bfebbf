package backend

import (
	"context"
	"time"
)

// ProgramLister tells which programs are connected to the database of a backend. It may be called concurrently.
type ProgramLister interface {
	// Programs returns those that are connected now, in the order of their names, whether they use ezq or not. It
	// returns the first [MaxPrograms]; if there are more, with a *[TruncatedError].
	Programs(ctx context.Context) ([]Program, error)
}

// MaxPrograms is how many programs are listed.
const MaxPrograms = 1000

// Program is the connections of one name, role and host: of a process, or of several that do not tell them apart.
// What it subscribes to, a server does not know.
type Program struct {
	Name        string    // what it calls itself; anything, since it chooses that
	Role        string    // as what it has logged in
	Host        string    // where it connects from; "" if it is the same machine, or that may not be seen
	Connections int       // how many it has
	Since       time.Time // when it opened the oldest; the zero Time if that may not be seen
}
