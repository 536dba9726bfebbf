package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// customers are those of the shop, and its suppliers.
type customers struct {
	broker *memory.Broker
	seed   uint64
}

// takeOrders publishes what the customers and the suppliers of the shop do, until ctx ends.
func (c customers) takeOrders(ctx context.Context) error {
	for order := 1; ; order++ {
		if err := c.takeOrder(ctx, order); err != nil {
			return untilEnd(ctx, err)
		}
		if order == wave {
			if err := errors.Join(c.takeImports(ctx), c.pauseInvoices(ctx)); err != nil {
				return untilEnd(ctx, err)
			}
		}
		if inWave := order/wave%2 == 0; !inWave && wait(ctx, pause) != nil {
			return nil
		}
	}
}

// untilEnd returns err, but for what fails because the shop closes.
func untilEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// takeOrder publishes an order, and a cart that its customer has left.
func (c customers) takeOrder(ctx context.Context, number int) error {
	o := c.order(number)
	options := []ezq.PublishOption{
		ezq.Topic(Orders), ezq.ID(fmt.Sprint("order-", number)), ezq.Key(o.Customer), ezq.Header("shop", "tea"),
	}
	if number <= wave && number%29 == 0 { // these wait for those before them
		options = append(options, ezq.Expires(10*time.Millisecond))
	}
	if err := ezq.Publish(ctx, c.broker, o, options...); err != nil {
		return err
	}
	cart := CartLeft{Customer: o.Customer, Item: o.Item}
	return ezq.Publish(ctx, c.broker, cart, ezq.Topic(Emails), ezq.Delay(time.Hour), ezq.Debounce("cart of "+o.Customer, 2*time.Hour))
}

// order returns the order of a number. It depends on that and on the seed alone. What is wrong with it can be repaired.
func (c customers) order(number int) OrderPlaced {
	chance := rand.New(rand.NewPCG(c.seed, uint64(number))) //nolint:gosec // it is to be the same each time
	o := OrderPlaced{
		Order: number, Customer: pick(chance, "ada", "alan", "barbara", "edsger", "grace", "ken", "margaret", "tony"),
		Item:     pick(chance, "Assam", "Darjeeling", "Earl Grey", "Gyokuro", "Lapsang Souchong", "Pu-erh", "Sencha"),
		Quantity: 1 + chance.IntN(5), Cents: cheapest + 50*chance.IntN(60),
		Address: fmt.Sprint(1+chance.IntN(99), " ", pick(chance, "High Street", "Mill Lane", "Station Road")),
		Card:    Card{Number: fmt.Sprint(4000 + number), ValidUntil: fmt.Sprintf("2031-%02d", 1+chance.IntN(12))},
	}
	switch luck := chance.IntN(100); {
	case luck < 6:
		o.Card.ValidUntil = "2019-04"
	case luck < 10:
		o.Cents = cheapest - 50
	case luck < 13:
		o.Coupon = oldCoupon
	case luck < 21:
		o.Address = ""
	}
	return o
}

func pick(chance *rand.Rand, from ...string) string { return from[chance.IntN(len(from))] }

func (c customers) takeImports(ctx context.Context) error {
	for _, supplier := range []string{"Assam", "Darjeeling", "Uji", "Wuyi"} {
		err := ezq.Publish(ctx, c.broker, ImportWanted{Supplier: supplier}, ezq.Topic(Imports), ezq.ID("import-"+supplier))
		if err != nil {
			return err
		}
	}
	return nil
}

// pauseInvoices waits until the schedule is known, as it is once the timetable runs.
func (c customers) pauseInvoices(ctx context.Context) error {
	schedules := c.broker.Schedules()
	for {
		_, err := schedules.Pause(ctx, "invoices", backend.Pause{By: "ada", Reason: "the new tax rates are not in yet"})
		if err == nil {
			return nil
		}
		if ended := wait(ctx, 10*time.Millisecond); ended != nil {
			return err
		}
	}
}

// wait returns nil after d, or earlier the cause for which ctx has ended.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
