// Package ezq routes typed events over a queue.
//
// An event is a plain Go type. A handler is a plain function. A router fetches
// events from a queue and calls the handlers:
//
//	type UserCreated struct{ Email string }
//
//	func welcome(ctx context.Context, e UserCreated) error {
//		fmt.Println("welcome,", e.Email)
//		return nil
//	}
//
//	func main() {
//		ctx := context.Background()
//		client := memory.New(nil) // or: client, err := pgmq.Open(ctx, databaseURL, nil)
//		router := ezq.NewRouter(client, nil)
//		ezq.Handle(router, welcome)
//
//		ezq.Publish(ctx, client, UserCreated{Email: "ada@example.com"})
//		ezq.Publish(ctx, client, ezq.EndEvent{})
//		if err := router.Run(ctx); err != nil {
//			log.Fatal(err)
//		}
//	}
//
// Events travel as JSON under the name of their type ([EventName]), so programs in
// other languages can publish and handle them too.
//
// # Delivery
//
// Every event is delivered at least once, so a handler must cope with seeing
// one twice. Its result decides what becomes of its event:
//
//	nil                  it is done
//	an error             it failed, and may be tried again
//	Permanent(err)       it failed for good, and becomes a dead letter
//	RetryAfter(d, err)   it failed, and waits d before it is tried again
//	Snooze(d)            not yet: it comes back after d, and has not failed
//
// A panic counts as an error. An event that failed comes back later, or is a dead
// letter; none is dropped because it failed. An error that a handler returns because it
// was interrupted is no failure.
//
// # Stopping
//
// A router stops when its context is cancelled or an [EndEvent] arrives. It then
// fetches no more events, lets running handlers finish, and interrupts those that
// take too long. An [InterruptEvent] does not wait for them. An event whose
// handler was interrupted is released: it goes back to the queue, and has not failed.
//
// # Backends
//
// The backend may be any Watermill Publisher and Subscriber. Those in this module,
// backend/pgmq for PostgreSQL and backend/memory for tests, also say which promises
// they keep: backend.Features has them by name, such as Progress and DeadLetter. So an
// option that the backend cannot honour is an error and never a silent no-op.
//
// # Beside this package
//
//   - middleware: when a failure is final, where dead letters go, time limits,
//     rates, duplicates.
//   - ezq/ezqtest: tests of handlers and of whole flows, in virtual time.
//   - ezq/schedule: periodic events, one for each tick.
//   - ezq/ezqenv: the configuration of a service from its environment.
//   - otel, a module of its own: traces and metrics for OpenTelemetry.
package ezq
