// Package model checks stores against a model of what a store must do: random
// sequences of operations must be observed alike on both. Whatever two backends
// have in common they have because each of them agrees with it.
//
// Time is not part of it. Leases and delays last for an hour, and end when the
// check says so, as if the hour had passed. So nothing waits, and a sequence of
// operations that fails can be made shorter and shorter by repeating it.
package model
