// Package subscription is the engine beneath the subscriptions of ezq's own
// backends. It turns a [Store], which can lease messages, into a Watermill
// subscription: it claims ahead, hands over, renews leases, carries outcomes
// back in batches, and ends without losing or needlessly repeating anything.
//
// One subscription is four loops around a list of leases:
//
//	fetch    claims messages while there is room    fetch.go
//	handOut  sends them to the channel, in order    deliver.go
//	renew    extends leases before they run out     renew.go
//	flush    stores acks and nacks in batches       settle.go
//
// The loops use only channels and timers to wait, so that a subscription to a
// store in memory runs in virtual time inside testing/synctest.
package subscription
