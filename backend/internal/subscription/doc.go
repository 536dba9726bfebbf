// Package subscription is the engine beneath the subscriptions of ezq's own
// backends. It turns a [Store], which can lease messages, into a Watermill
// subscription: it fetches ahead, hands over, extends leases, stores outcomes
// in batches, and ends without losing or needlessly repeating anything.
//
// One subscription is four loops around a list of leases:
//
//	fetcher    claims or locks messages while there is capacity    fetch.go
//	deliverer  sends them to the channel, in order                 deliver.go
//	extender   extends leases before they run out                  extend.go
//	settler    stores acks and nacks in batches                    settle.go
//
// Two more watch the store, if it can tell: pauseWatcher in pause.go has nothing fetched and handed over while the topic
// is paused, and removalWatcher in removal.go has all leases extended when messages may have been removed.
//
// The list is [leases]: one mutex, which only its own methods take. What it guards are
// the [contents], plain structs without a mutex: the table of messages, the capacity,
// the acks that the store refuses, and the policy of whether to lock messages or to
// lease them.
//
// The loops use only channels and timers to wait, so that a subscription to a
// store in memory runs in virtual time inside testing/synctest.
package subscription
