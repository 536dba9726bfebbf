// Package brokers runs the conformance suite on the brokers that ezq users have: its
// own backends in each of their modes, and Watermill's Pub/Subs at the settings that
// their documentation recommends.
//
// `scripts/brokers run go test ./...` in this directory tests them all, on servers of
// its own; `go run ./report` there writes docs/brokers.md and docs/brokers.json.
//
// What a foreign Pub/Sub fails is listed in [Known], with the cause. It is a module of
// its own, so that no program that uses ezq depends on the clients of five brokers.
package brokers
