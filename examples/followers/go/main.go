// Follows the control topic and says who may spend, as docs/decisions.md describes it. For a gateway in Go: take decisions.go and follow.
//
//	echo '{"dimensions": {"namespace": "support"}}' | go run . -fail closed 127.0.0.1:9092
//
// Each line of standard input is a question with the dimensions of a request (and the time `at` which, where not now), each line of
// standard output its answer.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const topic = "usage.decisions"

// follow reads the topic until the context ends; ready is set once it has been read to the end that it had at the start.
func follow(ctx context.Context, brokers []string, decisions *Decisions, ready *atomic.Bool) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		// Every follower reads all of it: no group shares it out.
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// The last record may be a marker of a transaction; without this it would never come.
		kgo.KeepControlRecords(),
		kgo.RetryBackoffFn(func(int) time.Duration { return 250 * time.Millisecond }),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	unread := ends(ctx, client)
	for ctx.Err() == nil {
		ready.Store(ready.Load() || (unread != nil && len(unread) == 0))
		fetches := client.PollFetches(ctx)
		// The client goes on by itself; until it can, what is known is in force.
		fetches.EachError(func(_ string, partition int32, err error) { log.Printf("partition %d: %v", partition, err) })
		fetches.EachRecord(func(record *kgo.Record) {
			if !record.Attrs.IsControl() {
				if err := decisions.Apply(record.Key, record.Value); err != nil {
					log.Printf("offset %d is no decision: %v", record.Offset, err)
				}
			}
			if end, is := unread[record.Partition]; is && record.Offset+1 >= end {
				delete(unread, record.Partition)
			}
		})
	}
	return ctx.Err()
}

// ends says where each partition that holds something ends now. It asks until it is answered.
func ends(ctx context.Context, client *kgo.Client) map[int32]int64 {
	admin := kadm.NewClient(client)
	for ctx.Err() == nil {
		starts, err := admin.ListStartOffsets(ctx, topic)
		if err == nil {
			err = starts.Error()
		}
		var ends kadm.ListedOffsets
		if err == nil {
			ends, err = admin.ListEndOffsets(ctx, topic)
		}
		if err == nil {
			err = ends.Error()
		}
		if err == nil && len(ends[topic]) > 0 {
			unread := map[int32]int64{}
			ends.Each(func(end kadm.ListedOffset) {
				if start, _ := starts.Lookup(topic, end.Partition); end.Offset > start.Offset {
					unread[end.Partition] = end.Offset
				}
			})
			return unread
		}
		log.Printf("cannot read where %s ends; trying again: %v", topic, err)
		time.Sleep(time.Second)
	}
	return nil
}

type question struct {
	Dimensions map[string]string `json:"dimensions"`
	At         *time.Time        `json:"at"`
}

// answer is what a gateway answers a request.
func answer(decisions *Decisions, ready, failOpen bool, asked question) map[string]any {
	if !ready {
		if failOpen {
			return map[string]any{"state": "allowed", "http_status": 200, "reason_code": "NOT_READY"}
		}
		return map[string]any{"state": "blocked", "http_status": 503, "reason_code": "NOT_READY"}
	}
	now := time.Now()
	if asked.At != nil {
		now = *asked.At
	}
	block := decisions.Check(asked.Dimensions, now)
	if block == nil {
		return map[string]any{"state": "allowed", "http_status": 200}
	}
	if !block.blocks() {
		return map[string]any{"state": "allowed", "http_status": 200, "budget": block.Budget, "expires_at": block.ExpiresAt, "throttle": block.Throttle}
	}
	return map[string]any{"state": "blocked", "http_status": block.HTTPStatus, "budget": block.Budget,
		"reason_code": block.ReasonCode, "expires_at": block.ExpiresAt}
}

func main() {
	fail := flag.String("fail", "closed", "what to answer before the topic was read: open or closed")
	flag.Parse()
	if flag.NArg() != 1 || (*fail != "open" && *fail != "closed") {
		fmt.Fprintln(os.Stderr, "usage: follower [-fail open|closed] HOST:PORT[,...]")
		os.Exit(2)
	}
	var decisions Decisions
	var ready atomic.Bool
	go func() {
		log.Fatal(follow(context.Background(), strings.Split(flag.Arg(0), ","), &decisions, &ready))
	}()
	// A gateway would answer at once, by its fail policy.
	for patience := time.Now().Add(3 * time.Second); !ready.Load() && time.Now().Before(patience); {
		time.Sleep(10 * time.Millisecond)
	}
	lines, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			log.Fatal(err)
		}
		if err := out.Encode(answer(&decisions, ready.Load(), *fail == "open", asked)); err != nil {
			log.Fatal(err)
		}
	}
}
