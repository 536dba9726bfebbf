// Package soak runs a queue under load while everything fails that can fail, again and again, and
// keeps account of what was lost, what came twice, and how long it took to recover. It has nothing
// but a test, which make soak runs: see there for how long, and for what it writes.
package soak
