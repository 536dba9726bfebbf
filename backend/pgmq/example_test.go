package pgmq_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

// The examples need PGMQ at EZQ_DATABASE_URL. TestExamples_PrintPromisedOutput runs them.
type orderPaid struct{ Order int }

// A service opens a queue, and uses it to publish and to handle.
func Example() {
	ctx := context.Background()
	client, err := pgmq.Open(ctx, os.Getenv("EZQ_DATABASE_URL"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = client.Close() }()

	router := ezq.NewRouter(client, nil)
	ezq.Handle(router, func(_ context.Context, e orderPaid) error {
		fmt.Println("order", e.Order, "is paid")
		return nil
	})
	fmt.Println(ezq.PublishBatch(ctx, client, []any{orderPaid{Order: 7}, ezq.EndEvent{}}))
	fmt.Println(router.Run(ctx))
	// <nil>
	// order 7 is paid
	// <nil>
}

// The event is there if and only if the transaction commits.
func ExampleClient_WithTx() {
	ctx := context.Background()
	pool, client := openWithPool(ctx)
	defer pool.Close()
	defer func() { _ = client.Close() }()

	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if err := ezq.Publish(ctx, client.WithTx(tx), orderPaid{Order: 7}, ezq.Topic("in")); err != nil {
			return err
		}
		return errors.New("the order is cancelled") // so the transaction is rolled back
	})
	metrics, _ := client.Metrics(ctx, "in")
	fmt.Println(err)
	fmt.Println(metrics.Visible, "events")
	// the order is cancelled
	// 0 events
}

// What the handler writes, what it publishes and the ack of its event commit together.
func ExampleClient_TxMiddleware() {
	ctx := context.Background()
	pool, client := openWithPool(ctx)
	defer pool.Close()
	defer func() { _ = client.Close() }()
	_, _ = pool.Exec(ctx, "create table payments (number int)")

	router := ezq.NewRouter(client, &ezq.Config{Concurrency: 1})
	ezq.Handle(router, func(ctx context.Context, e orderPaid) error {
		_, err := pgmq.TxFromContext(ctx).Exec(ctx, "insert into payments values ($1)", e.Order)
		return err
	}, ezq.Topic("intx"), ezq.Use(client.TxMiddleware()))
	_ = ezq.PublishBatch(ctx, client, []any{orderPaid{Order: 7}, ezq.EndEvent{}}, ezq.Topic("intx"))
	fmt.Println(router.Run(ctx))

	var number int
	_ = pool.QueryRow(ctx, "select number from payments").Scan(&number)
	fmt.Println("payment", number)
	// <nil>
	// payment 7
}

// What was dead-lettered is looked at, and goes back when its cause is gone.
func ExampleClient_Redrive() {
	ctx := context.Background()
	pool, client := openWithPool(ctx)
	defer pool.Close()
	defer func() { _ = client.Close() }()

	router := ezq.NewRouter(client, &ezq.Config{Concurrency: 1})
	router.Use(middleware.Poison{}.Middleware)
	ezq.Handle(router, func(context.Context, orderPaid) error {
		return ezq.Permanent(errors.New("no such order"))
	}, ezq.Topic("paid"))
	_ = ezq.PublishBatch(ctx, client, []any{orderPaid{Order: 7}, ezq.EndEvent{}}, ezq.Topic("paid"))
	_ = router.Run(ctx)

	deadLetters, _ := client.DeadLetters(ctx, "paid_dead", backend.DeadLetterSelection{Limit: 10})
	for _, deadLetter := range deadLetters {
		fmt.Printf("from %s, given up by %s: %s\n", deadLetter.Topic, deadLetter.Handler, deadLetter.Reason)
	}
	redriven, err := client.Redrive(ctx, "paid_dead", backend.DeadLetterSelection{Handler: "orderPaid"})
	fmt.Println("moved", redriven.Moved, err)
	// from paid, given up by orderPaid: no such order
	// moved 1 <nil>
}

// A queue has lost an index, and is found before its claims are slow.
func ExampleClient_Check() {
	ctx := context.Background()
	pool, client := openWithPool(ctx)
	defer pool.Close()
	defer func() { _ = client.Close() }()
	_ = client.CreateQueue(ctx, "paid", nil)
	_, _ = pool.Exec(ctx, "drop index pgmq.q_paid_vt_idx")

	found, err := client.Check(ctx)
	for _, f := range found {
		if f.Object == "paid" {
			fmt.Printf("%v: %s: %s\n%s\n%s\n", f.Severity, f.ID, f.Seen, f.Remedy, f.SQL)
		}
	}
	fmt.Println(err)
	// warning: missing-index: no index begins with vt
	// create it: each claim reads the whole table
	// create index concurrently on pgmq.q_paid (vt)
	// <nil>
}

// An event is found by its key, its ID, its name, a header or a field of its body, wherever it lies.
func ExampleClient_Find() {
	ctx := context.Background()
	pool, client := openWithPool(ctx)
	defer pool.Close()
	defer func() { _ = client.Close() }()
	_ = ezq.Publish(ctx, client, orderPaid{Order: 7}, ezq.Topic("paid"), ezq.Delay(time.Hour), ezq.Unique("order 7"))

	for _, s := range []backend.Selection{{UniqueKey: "order 7"}, {Field: "Order", Equals: 7}, {Field: "Order", Equals: "7"}} {
		found, err := client.Find(ctx, "paid", s)
		fmt.Println(len(found), err)
		for _, f := range found {
			fmt.Println(f.Place, f.State, string(f.Payload))
		}
	}
	// 1 <nil>
	// topic delayed {"Order":7,"_type":"orderPaid"}
	// 1 <nil>
	// topic delayed {"Order":7,"_type":"orderPaid"}
	// 0 <nil>
}

// What waits is cancelled by its key. What is being handled is left alone, and counted.
func ExampleClient_Cancel() {
	ctx := context.Background()
	pool, client := openWithPool(ctx)
	defer pool.Close()
	defer func() { _ = client.Close() }()
	remind := func() (result ezq.PublishResult, err error) {
		err = ezq.Publish(ctx, client, orderPaid{Order: 7}, ezq.Topic("reminders"), ezq.Delay(time.Hour), ezq.Unique("order 7"), ezq.ResultTo(&result))
		return result, err
	}
	_, _ = remind()

	cancelled, err := client.Cancel(ctx, "reminders", backend.Selection{UniqueKey: "order 7"})
	fmt.Println("removed", cancelled.Removed, "busy", cancelled.Busy, err)
	result, err := remind()
	fmt.Println("the key is free:", result.Stored, err)
	// removed 1 busy 0 <nil>
	// the key is free: true <nil>
}

// What waits is moved to another time. Consumers that wait for it are told.
func ExampleClient_Reschedule() {
	ctx := context.Background()
	pool, client := openWithPool(ctx)
	defer pool.Close()
	defer func() { _ = client.Close() }()
	_ = ezq.Publish(ctx, client, orderPaid{Order: 7}, ezq.Topic("reminders"), ezq.Delay(72*time.Hour), ezq.Unique("order 7"))

	rescheduled, err := client.Reschedule(ctx, "reminders", backend.Selection{UniqueKey: "order 7"}, time.Now())
	fmt.Println("moved", rescheduled.Moved, "busy", rescheduled.Busy, err)
	metrics, _ := client.Metrics(ctx, "reminders")
	fmt.Println(metrics.Visible, "is due")
	// moved 1 busy 0 <nil>
	// 1 is due
}

// A pause stops the consumers of a topic in all processes. The longer one of two holds.
func ExampleClient_Pause() {
	ctx := context.Background()
	pool, client := openWithPool(ctx)
	defer pool.Close()
	defer func() { _ = client.Close() }()

	const topic = "mails"
	_, err := client.Pause(ctx, topic, backend.Pause{By: "ada", Reason: "the mail server is down"})
	fmt.Println("paused", err)
	held, err := client.Pause(ctx, topic, backend.Pause{By: "bob", Reason: "lunch", For: time.Hour})
	fmt.Println("by", held.By, "because", held.Reason, err)
	resumed, err := client.Resume(ctx, topic)
	fmt.Println("resumed", resumed, err)
	// paused <nil>
	// by ada because the mail server is down <nil>
	// resumed true <nil>
}

// An error says what went wrong, what became of the messages, and what to do.
func ExampleError() {
	ctx := context.Background()
	pool, _ := pgxpool.New(ctx, os.Getenv("EZQ_DATABASE_URL"))
	defer pool.Close()
	publisher, _ := pgmq.NewPublisher(pool, &pgmq.PublisherConfig{NoCreate: true})

	err := publisher.Publish("nowhere", message.NewMessage("1", nil))
	fmt.Println(errors.Is(err, pgmq.ErrQueueNotFound), errors.Is(err, pgmq.ErrRejected))
	if failed := new(pgmq.Error); errors.As(err, &failed) {
		fmt.Println("to", failed.Op, "to", failed.Topic)
	}
	// true true
	// to publish to nowhere
}

// A program that is written for Watermill's constructors finds them here.
func ExampleNewSubscriber() {
	ctx := context.Background()
	pool, _ := pgxpool.New(ctx, os.Getenv("EZQ_DATABASE_URL"))
	defer pool.Close()
	publisher, _ := pgmq.NewPublisher(pool, nil)
	subscriber, err := pgmq.NewSubscriber(pool, &pgmq.SubscriberConfig{Lease: time.Minute}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	messages, _ := subscriber.Subscribe(ctx, "greetings")
	_ = publisher.Publish("greetings", message.NewMessage("1", []byte("hello")))
	msg := <-messages
	fmt.Println(string(msg.Payload), msg.Ack())
	fmt.Println(subscriber.Close())
	// hello true
	// <nil>
}

func openWithPool(ctx context.Context) (*pgxpool.Pool, *pgmq.Client) {
	pool, err := pgxpool.New(ctx, os.Getenv("EZQ_DATABASE_URL"))
	if err != nil {
		panic(err)
	}
	client, err := pgmq.New(pool, nil)
	if err != nil {
		panic(err)
	}
	return pool, client
}
