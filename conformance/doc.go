// Package conformance checks that a backend keeps its promises.
//
// It takes any Watermill Publisher and Subscriber. The test of a backend is one
// call, in which the promises are spelled out, so that none can be dropped
// unnoticed:
//
//	func TestConformance(t *testing.T) {
//		conformance.Run(t, open, conformance.Promises{
//			Features: backend.Features{Delay: true, Attempts: true},
//			Durable:  true,
//		})
//	}
//
// Every case has a name, a sentence that says what holds, and a need: the promises
// without which it does not apply. Cases that need nothing hold for every Pub/Sub.
// One half of them looks at the Pub/Sub itself, the other at an ezq.Router on it.
//
// [Check] does the same outside of a test and returns what it has found, as JSON if
// need be. docs/conformance.md lists the cases; docs/backends.md is the way from an
// empty file to a backend that passes them.
//
// A suite is worth what it notices. This one is tried on backends that are broken on
// purpose, each in one way: each of them is noticed, and each case notices one.
package conformance
