package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/ezq"
)

// OrderPlaced says that a customer has ordered something.
type OrderPlaced struct {
	Order    int    `json:"order"`
	Customer string `json:"customer"`
	Address  string `json:"address"`
	Item     string `json:"item"`
	Quantity int    `json:"quantity"`
	Cents    int    `json:"cents"`
	Card     Card   `json:"card"`
	Coupon   string `json:"coupon,omitempty"`
}

// Card is what an order is paid with.
type Card struct {
	Number     string `json:"number"`
	ValidUntil string `json:"valid_until"` // a month, such as 2031-04
}

// ParcelWanted says that an order is paid, and is to be packed.
type ParcelWanted struct {
	Order   int    `json:"order"`
	Item    string `json:"item"`
	Address string `json:"address"`
}

// ParcelSent says that a parcel has left.
type ParcelSent struct {
	Order int    `json:"order"`
	Item  string `json:"item"`
}

// EmailWanted says that a customer is to be told something.
type EmailWanted struct {
	Order   int    `json:"order"`
	To      string `json:"to"`
	Subject string `json:"subject"`
}

// CartLeft says that a customer has left a cart with something in it.
type CartLeft struct {
	Customer string `json:"customer"`
	Item     string `json:"item"`
}

// PointsEarned says that a customer has earned points.
type PointsEarned struct {
	Order  int `json:"order"`
	Points int `json:"points"`
}

// ImportWanted says that the catalogue of a supplier is to be read.
type ImportWanted struct {
	Supplier string `json:"supplier"`
}

// PriceSet says what a tea costs.
type PriceSet struct {
	Tea   string `json:"tea"`
	Cents int    `json:"cents"`
}

// ReportWanted says that a report is due.
type ReportWanted struct {
	Report string `json:"report"`
}

const (
	today     = "2026-01" // for cards: it is always the same, so that the same orders fail
	cheapest  = 450       // cents
	oldCoupon = "TEA-0"
)

// clerk has the handlers of the shop.
type clerk struct {
	publisher message.Publisher
	seed      uint64
}

// chance returns what decides about an event: its ID and the seed alone, not the time, nor what else goes on.
func (c clerk) chance(kind, number int) *rand.Rand {
	return rand.New(rand.NewPCG(c.seed, uint64(kind)<<32|uint64(number))) //nolint:gosec // it is to be the same each time
}

// charge takes the money for an order, and has the other clerks do the rest.
func (c clerk) charge(ctx context.Context, e OrderPlaced) error {
	chance := c.chance(1, e.Order)
	if err := wait(ctx, time.Duration(20+chance.IntN(80))*time.Millisecond); err != nil {
		return err
	}
	switch luck := chance.IntN(100); {
	case e.Card.ValidUntil < today:
		return c.refuse(ctx, e, fmt.Errorf("card %s has expired", e.Card.Number))
	case e.Cents < cheapest:
		return c.refuse(ctx, e, fmt.Errorf("the price is %d cents, not %d", cheapest, e.Cents))
	case e.Coupon == oldCoupon:
		panic(fmt.Sprintf("coupon %s has no rate", e.Coupon))
	case luck < 4:
		return errors.New("bank: connection refused")
	case luck < 30 && ezq.MetaFromContext(ctx).Failures < 1+luck%3:
		return errors.New("bank: timeout after 30 s")
	}
	about := EmailWanted{Order: e.Order, To: e.Customer, Subject: "thank you for your order"}
	return errors.Join(
		c.publish(ctx, Shipping, fmt.Sprint("parcel-", e.Order), ParcelWanted{Order: e.Order, Item: e.Item, Address: e.Address}),
		c.publish(ctx, Emails, fmt.Sprint("thanks-", e.Order), about),
		c.publish(ctx, Loyalty, fmt.Sprint("points-", e.Order), PointsEarned{Order: e.Order, Points: e.Cents / 100}))
}

// refuse has an order fail for good. The customer hears of it later, since the order may be repaired until then.
func (c clerk) refuse(ctx context.Context, e OrderPlaced, reason error) error {
	about := EmailWanted{Order: e.Order, To: e.Customer, Subject: "there is something wrong with your order"}
	return errors.Join(ezq.Permanent(reason), c.publish(ctx, Emails, fmt.Sprint("sorry-", e.Order), about, ezq.Delay(reminder)))
}

func (c clerk) pack(ctx context.Context, e ParcelWanted) error {
	chance := c.chance(2, e.Order)
	if err := wait(ctx, time.Duration(50+chance.IntN(250))*time.Millisecond); err != nil {
		return err
	}
	switch {
	case e.Address == "":
		return ezq.Permanent(errors.New("there is no address"))
	case e.Item == "Gyokuro" && chance.IntN(2) == 0:
		return ezq.Permanent(fmt.Errorf("%s is out of stock", e.Item))
	}
	review := EmailWanted{Order: e.Order, To: "customer", Subject: "how was your tea?"}
	return errors.Join(
		c.publish(ctx, Sent, fmt.Sprint("sent-", e.Order), ParcelSent{Order: e.Order, Item: e.Item}),
		c.publish(ctx, Emails, fmt.Sprint("review-", e.Order), review, ezq.Delay(reminder)))
}

// invoice writes the invoice of a parcel.
func (c clerk) invoice(ctx context.Context, e ParcelSent) error {
	if c.chance(5, e.Order).IntN(4) == 0 {
		return ezq.Permanent(fmt.Errorf("order %d has no VAT number", e.Order))
	}
	return c.track(ctx, e)
}

func (c clerk) track(ctx context.Context, e ParcelSent) error {
	return wait(ctx, time.Duration(len(e.Item))*time.Millisecond)
}

func (c clerk) send(ctx context.Context, e EmailWanted) error {
	chance := c.chance(3, e.Order*8+len(e.Subject)%8)
	if err := wait(ctx, time.Duration(10+chance.IntN(60))*time.Millisecond); err != nil {
		return err
	}
	switch luck := chance.IntN(100); {
	case luck < 3:
		return ezq.Permanent(fmt.Errorf("smtp: 550 mailbox of %s unavailable", e.To))
	case luck < 25 && ezq.MetaFromContext(ctx).Failures <= luck%3:
		return errors.New("smtp: 421 too busy, try again later")
	}
	return nil
}

func (c clerk) remind(ctx context.Context, e CartLeft) error {
	return wait(ctx, time.Duration(len(e.Item))*time.Millisecond)
}

func (c clerk) award(ctx context.Context, e PointsEarned) error {
	return wait(ctx, time.Duration(c.chance(4, e.Order).IntN(20))*time.Millisecond)
}

// readCatalogue takes long. It ends at once if it is cancelled, and leaves the rest to another time if the shop closes.
func (c clerk) readCatalogue(ctx context.Context, e ImportWanted) error {
	for i, tea := range []string{"first flush", "second flush", "autumnal", "dust"} {
		cents := 900 - 300*i
		id := "price of " + e.Supplier + " " + tea
		err := c.publish(ctx, Prices, id, PriceSet{Tea: e.Supplier + " " + tea, Cents: cents}, ezq.Delay(time.Duration(max(cents, 0))*time.Minute))
		if err != nil {
			return err
		}
	}
	timer := time.NewTimer(longImport)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ezq.StoppingFromContext(ctx):
		return ezq.Snooze(time.Millisecond)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c clerk) setPrice(ctx context.Context, e PriceSet) error {
	if e.Cents > 0 {
		return nil
	}
	about := EmailWanted{To: "purchasing", Subject: "what does " + e.Tea + " cost?"}
	return errors.Join(
		ezq.Permanent(fmt.Errorf("%d cents is no price", e.Cents)),
		c.publish(ctx, Emails, "question about "+e.Tea, about, ezq.Delay(reminder)))
}

func (c clerk) report(ctx context.Context, e ReportWanted) error {
	return wait(ctx, time.Duration(len(e.Report))*time.Millisecond)
}

// publish stores an event under an ID, so that the next attempt of a handler does not store it again.
func (c clerk) publish(ctx context.Context, topic, id string, event any, options ...ezq.PublishOption) error {
	return ezq.Publish(ctx, c.publisher, event, append(options, ezq.Topic(topic), ezq.ID(id), ezq.Header("shop", "tea"))...)
}
