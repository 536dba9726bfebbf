// Package watermilltest holds Watermill's own middleware to what package middleware
// says about it in an ezq router: CorrelationID, Recoverer and CircuitBreaker are safe.
//
// It is a module of its own because Watermill keeps all its middleware in one
// package, with dependencies that ezq has no other use for.
package watermilltest
