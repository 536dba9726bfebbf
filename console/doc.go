// Package console shows in a browser how the queues of a backend are doing, and lets operators act on them: an
// [http.Handler] that a program mounts behind its own authentication.
//
// It needs nothing but a client that is a [backend.Inspector], as those of backend/pgmq and backend/memory are. What
// else the client can do, it shows: dead letters with a [backend.DeadLetterStore], single events with a [backend.Finder], pauses, schedules,
// and the findings of a [backend.Checker].
//
// The zero [Config] shows counts alone and changes nothing. [Rights] are granted for each request by [Config.Allow]. Each
// change asks first, is a POST that no other site can send, and is logged. docs/console.md tells more.
package console
