package main

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// Decision is what a follower needs of one. Members that are not named here are nobody's business: the contract grows by them.
type Decision struct {
	Budget     string            `json:"budget"`
	Scope      map[string]string `json:"scope"`
	State      string            `json:"state"`
	ReasonCode string            `json:"reason_code"`
	HTTPStatus int               `json:"http_status"`
	Seq        uint64            `json:"seq"`
	ExpiresAt  time.Time         `json:"expires_at"`
	Throttle   *Throttle         `json:"throttle"`
}

// Throttle is the rate that a scope may spend at: a token bucket of Burst that is filled evenly with Requests in PerS seconds.
type Throttle struct {
	ReasonCode string `json:"reason_code"`
	Requests   uint64 `json:"requests"`
	PerS       uint64 `json:"per_s"`
	Burst      uint64 `json:"burst"`
	By         string `json:"by,omitempty"`
}

func (d *Decision) blocks() bool { return d.State == "blocked" }

func (d *Decision) restrains() bool { return d.blocks() || d.Throttle != nil }

// goesBefore says which of two that are in force is told: a block that lasts longer, else a slower throttle.
func (d *Decision) goesBefore(other *Decision) bool {
	switch {
	case other == nil || d.blocks() != other.blocks():
		return other == nil || d.blocks()
	case d.blocks():
		return d.ExpiresAt.After(other.ExpiresAt)
	default:
		return d.Throttle.Requests*other.Throttle.PerS < other.Throttle.Requests*d.Throttle.PerS
	}
}

// Decisions holds the last decision of each key. The zero value is ready to use.
type Decisions struct {
	mu     sync.RWMutex
	latest map[string]*Decision
	// Blocks and throttles by the names of their scope's dimensions, by the values of these, by key.
	blocks map[string]*group
}

type group struct {
	names   []string
	byValue map[string]map[string]*Decision
}

// Apply takes one record, a tombstone where value is nil. After an error what was known of the key stays.
func (d *Decisions) Apply(key, value []byte) error {
	if key == nil {
		return errors.New("it has no key")
	}
	var decision *Decision
	if value != nil {
		decision = new(Decision)
		if err := json.Unmarshal(value, decision); err != nil {
			return err
		}
		if decision.State == "" || decision.Scope == nil || decision.Seq == 0 || decision.ExpiresAt.IsZero() {
			return errors.New("it lacks its state, scope, seq or expires_at")
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.latest[string(key)]
	if before != nil && decision != nil && decision.Seq <= before.Seq {
		return nil // older than what is known, or the same again
	}
	if before != nil && before.restrains() {
		names := namesOf(before.Scope)
		byValue := d.blocks[text(names)].byValue
		values := valuesOf(names, before.Scope)
		delete(byValue[values], string(key))
		if len(byValue[values]) == 0 {
			delete(byValue, values)
		}
	}
	if decision == nil {
		delete(d.latest, string(key))
		return nil
	}
	if d.latest == nil {
		d.latest, d.blocks = map[string]*Decision{}, map[string]*group{}
	}
	d.latest[string(key)] = decision
	if decision.restrains() {
		names := namesOf(decision.Scope)
		of := d.blocks[text(names)]
		if of == nil {
			of = &group{names, map[string]map[string]*Decision{}}
			d.blocks[text(names)] = of
		}
		values := valuesOf(names, decision.Scope)
		if of.byValue[values] == nil {
			of.byValue[values] = map[string]*Decision{}
		}
		of.byValue[values][string(key)] = decision
	}
	return nil
}

// Check returns what is in force for a request with these dimensions: the block that lasts longest, else the slowest throttle (hold requests to
// its rate); nil: it may spend.
func (d *Decisions) Check(dimensions map[string]string, now time.Time) *Decision {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var told *Decision
	for _, of := range d.blocks {
		lacks := func(name string) bool { _, found := dimensions[name]; return !found }
		if slices.ContainsFunc(of.names, lacks) {
			continue
		}
		for _, decision := range of.byValue[valuesOf(of.names, dimensions)] {
			// It ends by itself.
			if now.Before(decision.ExpiresAt) && decision.goesBefore(told) {
				told = decision
			}
		}
	}
	return told
}

func namesOf(scope map[string]string) []string {
	names := make([]string, 0, len(scope))
	for name := range scope {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// valuesOf is the same text for the same values only.
func valuesOf(names []string, of map[string]string) string {
	values := make([]string, 0, len(names))
	for _, name := range names {
		values = append(values, of[name])
	}
	return text(values)
}

// text holds lengths, so that no value can pass for two.
func text(values []string) string {
	var all strings.Builder
	for _, value := range values {
		length := len(value)
		all.Write([]byte{byte(length), byte(length >> 8), byte(length >> 16), byte(length >> 24)})
		all.WriteString(value)
	}
	return all.String()
}
