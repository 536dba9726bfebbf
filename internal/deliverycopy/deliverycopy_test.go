package deliverycopy_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/deliverycopy"
)

type parker struct{}

func (parker) Park(bool) {}

func TestCopy_HasEachFieldAndNoDisposition(t *testing.T) {
	t.Parallel()
	original := &backend.Delivery{
		Number: 3, Failures: 2, Done: []string{"one"}, UnknownSince: time.Now(), PublishedAt: time.Now(), PublishedTo: "orders.eu",
		DeadLetters: true, Progress: true, Parker: parker{}, Receipt: "proof",
	}
	msg := message.NewMessage("id", nil)
	msg.SetContext(backend.WithDelivery(t.Context(), original))
	if !backend.Nack(msg, backend.Redelivery{Delay: time.Second}) {
		t.Fatal("the message cannot be nacked")
	}

	copied := deliverycopy.Of(original)
	from, to := reflect.ValueOf(original).Elem(), reflect.ValueOf(copied).Elem()
	for i := range from.NumField() {
		field := from.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		if from.Field(i).IsZero() {
			t.Errorf("this test does not set %s", field.Name)
		}
		if !reflect.DeepEqual(from.Field(i).Interface(), to.Field(i).Interface()) {
			t.Errorf("%s is not copied", field.Name)
		}
	}
	if disposition, ok := copied.Disposition(); ok {
		t.Errorf("the copy has the disposition %+v of its original", disposition)
	}
}
