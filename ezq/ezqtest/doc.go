// Package ezqtest tests programs that publish and handle events.
//
// [Run] runs a whole flow in memory and in virtual time, where a retry in three days
// takes microseconds:
//
//	func TestAnOrderThatIsPaidIsInvoiced(t *testing.T) {
//		ezqtest.Run(t, billing.NewRouter, func(f *ezqtest.Flow) {
//			f.Publish(OrderPaid{Order: 7})
//			f.AwaitIdle()
//			ezqtest.Published[InvoiceCreated](f).Equal(InvoiceCreated{Order: 7})
//
//			f.Advance(72 * time.Hour)
//			ezqtest.Handled[ReminderDue](f).Times(1)
//			ezqtest.DeadLettered[OrderPaid](f).Times(0)
//		})
//	}
//
// Events go through the program's own router: codec, middleware, retries and dead
// letters are those of production. [RunOn] runs the same body on another backend.
// [CheckIdempotent] repeats and interrupts deliveries, and fails if the result differs.
// [Deliver] calls a single handler. [Group] and [AddRouter] are for programs whose consumers have groups, and for flows
// of several of these.
//
// A check that fails prints what was expected, what was found, and the history of all
// events.
package ezqtest
