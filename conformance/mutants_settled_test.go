package conformance_test

import (
	"time"

	"github.com/ezq-go/ezq/backend"
)

// settling returns the flaw of doing something else with what is not acked.
func settling(f func(*delivery, backend.Disposition)) fault {
	return fault{interception: interception{settle: f}}
}

// changingDelivery returns the flaw of saying something wrong about a delivery.
func changingDelivery(f func(*backend.Delivery)) fault {
	return fault{interception: interception{deliver: func(d *delivery) bool {
		f(d.info)
		return true
	}}}
}

func ackMutants() []mutant {
	return []mutant{
		{
			name:     "an ack is a nack",
			breaks:   "a message that was acked comes back",
			killedBy: []string{"delivery/an acked message is gone", "delivery/many arrive"},
			fault:    fault{interception: interception{ack: (*delivery).release}},
		},
		{
			name:   "an ack is forgotten",
			breaks: "a message that was acked comes back when its subscription ends",
			killedBy: []string{
				"delivery/an acked message is gone", "router/a handled event is done", "control events/EndEvent stops one router, once",
				"stopping a router/handlers finish", "stopping/contexts live while their consumer drains",
			},
			fault: fault{interception: interception{ack: func(d *delivery) {
				d.awaitEnd()
				d.release()
			}}},
		},
		{
			name:   "a nack is an ack",
			breaks: "a message that was nacked does not come back",
			killedBy: []string{
				"redelivery/a nacked message comes back", "router/a failed event is handled again", "router/an unknown event stays",
			},
			fault: settling(func(d *delivery, v backend.Disposition) {
				if v.Target == nil {
					d.msg.Ack()
					return
				}
				d.settleAs(v)
			}),
		},
		{
			name:   "a nack is a dead letter",
			breaks: "a message that was nacked is moved to a topic that was not asked for",
			killedBy: []string{
				"redelivery/a nacked message comes back", "dead letters/what is settled cannot be given up",
			},
			fault: settling(func(d *delivery, v backend.Disposition) {
				if v.Target == nil {
					v.Target = &backend.DeadLetterTarget{Topic: "dead"}
				}
				d.settleAs(v)
			}),
		},
		{
			name:     "a nack takes the next one along",
			breaks:   "a message is lost when the one before it is nacked",
			killedBy: []string{"redelivery/a nack loses nothing else"},
			fault: fault{interception: interception{
				settle: func(d *delivery, v backend.Disposition) {
					d.increment("nacked")
					d.settleAs(v)
				},
				deliver: func(d *delivery) bool {
					if d.count("nacked") > d.count("taken along") {
						d.increment("taken along")
						d.msg.Ack()
						return false
					}
					return true
				},
			}},
		},
		{
			name:     "what comes back has lost its metadata",
			breaks:   "a message that comes again is not what it was",
			killedBy: []string{"redelivery/a nacked message comes back"},
			fault: fault{interception: interception{deliver: func(d *delivery) bool {
				if d.info.Number > 1 {
					clear(d.handed.Metadata)
				}
				return true
			}}},
		},
	}
}

func recordMutants() []mutant {
	return []mutant{
		{
			name:     "every delivery is the first",
			breaks:   "the number of a delivery does not move",
			killedBy: []string{"redelivery/deliveries are counted", "router/failures are counted"},
			fault:    changingDelivery(func(d *backend.Delivery) { d.Number = 1 }),
		},
		{
			name:     "deliveries count twice",
			breaks:   "the number of a delivery moves by two",
			killedBy: []string{"redelivery/deliveries are counted", "router/failures are counted"},
			fault:    changingDelivery(func(d *backend.Delivery) { d.Number = 2*d.Number - 1 }),
		},
		{
			name:     "deliveries count from 0",
			breaks:   "the first delivery has no number",
			killedBy: []string{"redelivery/deliveries are counted"},
			fault:    changingDelivery(func(d *backend.Delivery) { d.Number-- }),
		},
		{
			name:     "what has not begun is counted",
			breaks:   "a message that its consumer has released comes as another delivery",
			killedBy: []string{"router/what has not begun is not delivered"},
			fault: settling(func(d *delivery, v backend.Disposition) {
				v.Fallback.Uncounted = false
				d.settleAs(v)
			}),
		},
		{
			name:     "what has not begun goes to the end",
			breaks:   "a message that its consumer has released comes after what was published later",
			killedBy: []string{"router/what has not begun is not delivered"},
			fault: settling(func(d *delivery, v backend.Disposition) {
				v.Fallback.InPlace = false
				d.settleAs(v)
			}),
		},
		{
			name:     "failures are forgotten",
			breaks:   "the next delivery does not know of the failures of those before it",
			killedBy: []string{"redelivery/a nack's record is kept", "router/failures are counted"},
			fault:    changingDelivery(func(d *backend.Delivery) { d.Failures = 0 }),
		},
		{
			name:     "failures count twice",
			breaks:   "the next delivery knows of more failures than there were",
			killedBy: []string{"router/failures are counted", "router and dead letters/retries end"},
			fault:    changingDelivery(func(d *backend.Delivery) { d.Failures *= 2 }),
		},
		{
			name:     "deliveries are failures",
			breaks:   "what ended in a shutdown counts as a failure",
			killedBy: []string{"stopping a router/who takes too long is interrupted"},
			fault:    changingDelivery(func(d *backend.Delivery) { d.Failures = d.Number - 1 }),
		},
		{
			name:     "a message is published when it is delivered",
			breaks:   "the time of publishing is another one at each delivery",
			killedBy: []string{"redelivery/the time of publishing stays"},
			fault:    changingDelivery(func(d *backend.Delivery) { d.PublishedAt = time.Now() }),
		},
		{
			name:     "what is done is forgotten",
			breaks:   "the next delivery does not know which handlers have succeeded",
			killedBy: []string{"redelivery/a nack's record is kept", "router/only who failed runs again"},
			fault:    changingDelivery(func(d *backend.Delivery) { d.Done = nil }),
		},
	}
}
