package work

import (
	"context"
	"fmt"
	"time"

	"github.com/ezq-go/ezq/bench/contender"
	"github.com/ezq-go/ezq/bench/result"
)

// Work is something to do, and those who do it.
type Work struct {
	Name      string
	Title     string
	Metric    result.Metric
	Reference string // the entrant that the others are compared with
	Quick     bool   // it is part of a quick run
	Entrants  []Entrant
}

// Entrant is a contender that takes part in some work.
type Entrant struct {
	Name      string
	Contender string
	task      task
}

type task interface {
	run(ctx context.Context, lab *Lab, c contender.Contender) (Values, error)
}

// The contenders by what they can do.
const (
	ezqChannel    = "ezq/pgmq"
	ezqRouted     = "ezq/pgmq router"
	wsqlSchema    = "watermill-sql default schema, default"
	wsqlQueue     = "watermill-sql queue schema, default"
	wsqlBest      = "watermill-sql default schema, best"
	wsqlQBest     = "watermill-sql queue schema, best"
	riverPlain    = "River, default"
	riverBest     = "River, best"
	pgmq100       = "pgmq functions, 100"
	pgmq1000      = "pgmq functions, 1000"
	floor100      = "SQL floor, 100"
	floor1000     = "SQL floor, 1000"
	floorNoLeases = "SQL floor, no leases"
	floorOn       = "SQL floor, conditions"
	goChannel     = "gochannel"
	memory        = "ezq/memory"
	memoryR       = "ezq/memory router"
)

func publishers() []string {
	return []string{ezqChannel, ezqRouted, wsqlSchema, wsqlQueue, riverPlain, pgmq100, floor100}
}

func consumers() []string {
	return []string{
		ezqChannel, ezqRouted, wsqlSchema, wsqlQueue, wsqlBest, wsqlQBest, riverPlain, riverBest,
		pgmq100, pgmq1000, floor100, floor1000, floorNoLeases,
	}
}

// same lets all of them do the same.
func same(names []string, t task) []Entrant {
	var entrants []Entrant
	for _, name := range names {
		entrants = append(entrants, Entrant{name, name, t})
	}
	return entrants
}

// each lets all of them do each of several things.
func each(names, titles []string, tasks []task) []Entrant {
	var entrants []Entrant
	for _, name := range names {
		for i, t := range tasks {
			entrants = append(entrants, Entrant{name + ": " + titles[i], name, t})
		}
	}
	return entrants
}

// All returns all work.
func All(scale Scale) []Work {
	var all []Work
	for _, group := range [][]Work{publishing(), onCondition(), draining(scale), handling(scale), waiting(), standing(scale), stale(scale), inProcess(scale)} {
		all = append(all, group...)
	}
	return all
}

func publishing() []Work {
	var all []Work
	for _, goroutines := range []int{1, 8, 32} {
		all = append(all, Work{
			Name:   fmt.Sprintf("publish-%d", goroutines),
			Title:  fmt.Sprintf("Publish one message of 256 bytes per call, from %d goroutines", goroutines),
			Metric: result.Rate, Reference: ezqChannel, Quick: true,
			Entrants: same(publishers(), publish{goroutines: goroutines, size: 256}),
		})
	}
	for _, batch := range []int{10, 100, 1000} {
		all = append(all, Work{
			Name:   fmt.Sprintf("batch-%d", batch),
			Title:  fmt.Sprintf("Publish batches of %d messages of 256 bytes, one after the other", batch),
			Metric: result.Rate, Reference: ezqChannel, Quick: batch == 100,
			Entrants: same(publishers(), publish{goroutines: 1, batch: batch, size: 256}),
		})
	}
	sizes, tasks := []string{"256 B", "2 KiB", "20 KiB"}, []task{}
	for _, size := range []int{256, 2 << 10, 20 << 10} {
		tasks = append(tasks, publish{goroutines: 32, size: size})
	}
	return append(all, Work{
		Name:   "publish-payload",
		Title:  "Publish messages of several sizes, one per call, from 32 goroutines",
		Metric: result.Rate, Reference: ezqChannel + ": 256 B",
		Entrants: each([]string{ezqChannel, wsqlQueue, riverPlain, pgmq100, floor100}, sizes, tasks),
	})
}

// onCondition shows what a condition costs beside a plain publish, and beside River's unique jobs.
func onCondition() []Work {
	var all []Work
	for _, goroutines := range []int{1, 8} {
		plain := publish{goroutines: goroutines, size: 256}
		on := func(condition contender.Condition, sharing int) publish {
			p := plain
			p.condition, p.sharing = condition, sharing
			return p
		}
		all = append(all, Work{
			Name:   fmt.Sprintf("condition-%d", goroutines),
			Title:  fmt.Sprintf("Publish one message of 256 bytes per call on a condition, from %d goroutines", goroutines),
			Metric: result.Rate, Reference: ezqRouted + ": plain",
			Entrants: []Entrant{
				{ezqRouted + ": plain", ezqRouted, plain},
				{ezqRouted + ": ID", ezqRouted, on(contender.Once, 1)},
				{ezqRouted + ": ID, nine in ten exist", ezqRouted, on(contender.Once, 10)},
				{ezqRouted + ": unique", ezqRouted, on(contender.Unique, 1)},
				{ezqRouted + ": unique, nine in ten exist", ezqRouted, on(contender.Unique, 10)},
				{ezqRouted + ": replace, nine in ten exist", ezqRouted, on(contender.Replace, 10)},
				{riverPlain + ": plain", riverPlain, plain},
				{riverPlain + ": unique", riverPlain, on(contender.Unique, 1)},
				{riverPlain + ": unique, nine in ten exist", riverPlain, on(contender.Unique, 10)},
				{floorOn + ": plain", floorOn, plain},
				{floorOn + ": ID", floorOn, on(contender.Once, 1)},
				{floorOn + ": unique", floorOn, on(contender.Unique, 1)},
				{floorOn + ": replace, nine in ten exist", floorOn, on(contender.Replace, 10)},
			},
		})
	}
	return all
}

// several lets 1, 2 and 4 consumers drain a queue.
func several(scale Scale) Work {
	titles, tasks := []string{"1", "2", "4"}, []task{}
	for _, n := range []int{1, 2, 4} {
		tasks = append(tasks, drain{fill: scale.Drain, size: 256, consumers: n})
	}
	return Work{
		Name:   "consumers",
		Title:  "Drain with 1, 2 and 4 consumers, each with connections of its own; the handler does nothing",
		Metric: result.Rate, Reference: ezqChannel + ": 1",
		Entrants: each([]string{ezqChannel, pgmq1000, floor1000}, titles, tasks),
	}
}

func draining(scale Scale) []Work {
	sizes, tasks := []string{"256 B", "2 KiB", "20 KiB"}, []task{}
	for _, size := range []int{256, 2 << 10, 20 << 10} {
		tasks = append(tasks, drain{fill: max(2000, scale.Drain/10), size: size})
	}
	return []Work{
		several(scale),
		{
			Name:   "drain",
			Title:  fmt.Sprintf("Drain %d messages of 256 bytes; the handler does nothing", scale.Drain),
			Metric: result.Rate, Reference: ezqChannel, Quick: true,
			Entrants: same(consumers(), drain{fill: scale.Drain, size: 256}),
		},
		{
			Name:   "drain-payload",
			Title:  fmt.Sprintf("Drain %d messages of several sizes; the handler does nothing", scale.Drain/10),
			Metric: result.Rate, Reference: ezqChannel + ": 256 B",
			Entrants: each([]string{ezqChannel, wsqlQBest, riverBest, pgmq1000, floor1000}, sizes, tasks),
		},
	}
}

func handling(scale Scale) []Work {
	names := []string{ezqChannel, ezqRouted, wsqlBest, wsqlQBest, riverPlain, riverBest, pgmq1000, floor1000}
	var all []Work
	for _, ms := range []int{1, 2, 5, 50} {
		all = append(all, Work{
			Name:   fmt.Sprintf("handler-%dms", ms),
			Title:  fmt.Sprintf("Handlers that take %d ms, 500 at a time where it can", ms),
			Metric: result.Rate, Reference: ezqChannel, Quick: ms == 2,
			Entrants: same(names, drain{
				fill: scale.Drain, size: 256, inFlight: 500, handler: time.Duration(ms) * time.Millisecond,
			}),
		})
	}
	return append(all, Work{
		Name:   "handler-1-percent-slow",
		Title:  "Handlers that do nothing, but one in a hundred takes 300 ms; 100 at a time where it can",
		Metric: result.Rate, Reference: ezqChannel, Quick: true,
		Entrants: same([]string{ezqChannel, ezqRouted, wsqlQBest, riverPlain, riverBest, pgmq100},
			drain{fill: scale.Drain / 2, size: 256, inFlight: 100, slow: 300 * time.Millisecond}),
	})
}

func waiting() []Work {
	names := []string{
		ezqChannel, ezqRouted, wsqlSchema, wsqlBest, wsqlQBest, riverPlain, riverBest, pgmq100, pgmq1000,
	}
	var all []Work
	for _, rate := range []int{50, 1000} {
		all = append(all, Work{
			Name:   fmt.Sprintf("latency-%d", rate),
			Title:  fmt.Sprintf("From the call of Publish to the call of the handler, at %d messages a second", rate),
			Metric: result.P50, Reference: ezqChannel, Quick: true,
			Entrants: same(append(names, memory, goChannel), latency{rate}),
		})
	}
	return append(all, Work{
		Name:   "idle",
		Title:  "One subscription to an empty queue",
		Metric: result.IdleClient, Reference: ezqChannel, Quick: true,
		Entrants: same(append(names, "nothing"), idle{}),
	})
}

func standing(scale Scale) []Work {
	some := drain{fill: scale.Drain / 2, size: 256}
	pinned, delayed, leased := some, some, some
	pinned.pinned = true
	delayed.obstruct, delayed.obstacles = contender.Delayed, scale.Drain
	leased.obstruct, leased.obstacles = contender.Leased, scale.Drain
	shallow := drain{fill: 10_000, size: 256}
	deep := drain{fill: scale.Deep, take: 10_000, size: 256}
	return []Work{
		{
			Name:   "pinned",
			Title:  "Drain while a transaction elsewhere keeps dead rows from being forgotten",
			Metric: result.Rate, Reference: ezqChannel + ": pinned", Quick: true,
			Entrants: each([]string{ezqChannel, wsqlQBest, riverBest, pgmq1000, floor100},
				[]string{"undisturbed", "pinned"}, []task{some, pinned}),
		},
		{
			Name:   "obstructed",
			Title:  fmt.Sprintf("Drain behind %d messages that are delayed, or leased by others", scale.Drain),
			Metric: result.Rate, Reference: ezqChannel + ": delayed", Quick: true,
			Entrants: each([]string{ezqChannel, riverBest, pgmq1000, floor100},
				[]string{"none", "delayed", "leased"}, []task{some, delayed, leased}),
		},
		{
			Name:   "depth",
			Title:  fmt.Sprintf("Handle 10,000 messages of a queue that has 10,000, or %d", scale.Deep),
			Metric: result.Rate, Reference: ezqChannel + ": deep",
			Entrants: each([]string{ezqChannel, wsqlBest, pgmq1000, floor1000},
				[]string{"10,000", "deep"}, []task{shallow, deep}),
		},
	}
}

func inProcess(scale Scale) []Work {
	return []Work{{
		Name:   "in-process",
		Title:  "Publish one message per call from one goroutine while another handles them, in the process",
		Metric: result.Rate, Reference: memory, Quick: true,
		Entrants: same([]string{memory, memoryR, goChannel}, concurrent{scale.Drain}),
	}}
}
