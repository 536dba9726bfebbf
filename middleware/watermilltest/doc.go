// Package watermilltest compares package middleware with Watermill's own middleware, at
// v1.5.1, the version in its go.mod. It has tests only, of two kinds:
//
//   - watermill_test.go runs those of Watermill's middleware in an ezq router that the
//     documentation of package middleware calls safe: CorrelationID, Recoverer and
//     CircuitBreaker.
//   - defects_test.go has a test for each defect of Watermill's middleware that the
//     documentation of package middleware names, and for three more. Each shows that the
//     policy of ezq for the same purpose does not have it.
//
// It is a module of its own because Watermill keeps all its middleware in one
// package, with dependencies that ezq has no other use for.
package watermilltest
