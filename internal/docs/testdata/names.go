package snippet

import (
	"context"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
)

type (
	UserCreated struct{ Email string }
	OrderPaid   struct{ Order int }
	OrderReady  struct{ Order int }
)

var (
	ctx         context.Context
	err         error
	pool        *pgxpool.Pool
	tx          pgx.Tx
	client      *pgmq.Client
	router      *ezq.Router
	databaseURL string
	url         string
	email       string
	events      []UserCreated
	logger      watermill.LoggerAdapter
	publisher   message.Publisher
	subscriber  message.Subscriber
)

func welcome(context.Context, UserCreated) error { return nil }
