// A GopherQueue worker: fetches what jobs of type "fetch" name, as {"url": "..."}. Go 1.19 or newer, nothing else.
//
// GOPHERQUEUE_URL and GOPHERQUEUE_TOKEN name the server, SLOTS the jobs at once, GRACE the time that they have on SIGTERM.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Job is what a lease tells of a job; there is more in it.
type Job struct {
	ID                int64           `json:"id"`
	Token             string          `json:"token"`
	Type              string          `json:"type"`
	Payload           json.RawMessage `json:"payload"`
	Attempt           int             `json:"attempt"`
	Timeout           int64           `json:"timeout"`           // ms
	VisibilityTimeout int64           `json:"visibilityTimeout"` // ms
}

// Permanent wraps an error of a handler: trying again cannot help.
type Permanent struct{ error }

// What a handler returns is the result, or a failure, repeated unless it is Permanent. ctx ends when it is to stop.
var handlers = map[string]func(ctx context.Context, job Job) (any, error){"fetch": fetch}

func fetch(ctx context.Context, job Job) (any, error) {
	var payload struct{ URL string }
	if err := json.Unmarshal(job.Payload, &payload); err != nil {
		return nil, Permanent{err}
	}
	request, err := http.NewRequestWithContext(ctx, "GET", payload.URL, nil)
	if err != nil {
		return nil, Permanent{err}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	size, err := io.Copy(io.Discard, response.Body)
	switch code := response.StatusCode; {
	case err != nil:
		return nil, err
	case code == 404 || code == 410:
		return nil, Permanent{fmt.Errorf("%s is not there (%d)", payload.URL, code)}
	case code != 200:
		return nil, fmt.Errorf("%s answered %d", payload.URL, code)
	}
	return map[string]any{"status": response.StatusCode, "bytes": size}, nil
}

var (
	server = strings.TrimRight(env("GOPHERQUEUE_URL", "http://127.0.0.1:7420"), "/")
	token  = os.Getenv("GOPHERQUEUE_TOKEN")
	name   = fmt.Sprintf("%s-%d", hostname(), os.Getpid()) // of this process alone: two loops under one name replace each other
	client = &http.Client{Timeout: 70 * time.Second}
)

// Refused is the server's last word on a request.
type Refused struct {
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func (refused Refused) Error() string { return refused.Code + ": " + refused.Detail }

// call makes one request. With again it is sent again while the server is away or says that it cannot now, until ctx ends.
func call(ctx context.Context, method, path string, body, answer any, again bool) error {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		wait, err := once(ctx, method, path, body, answer)
		if wait < 0 || !again || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait + time.Duration(float64(pause)*(0.5+rand.Float64()/2))):
		}
	}
}

// once also says how long to wait before it is worth sending again; below zero when it is not.
func once(ctx context.Context, method, path string, body, answer any) (time.Duration, error) {
	var text []byte
	if fresh, ok := body.(func() any); ok {
		body = fresh() // made anew each time it is sent
	}
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return -1, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, server+path, bytes.NewReader(text))
	if err != nil {
		return -1, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		refused := Refused{Code: response.Status}
		_ = json.NewDecoder(response.Body).Decode(&refused) // a proxy's page is not JSON
		if response.StatusCode != 429 && response.StatusCode < 500 {
			return -1, refused
		}
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
		return time.Duration(seconds) * time.Second, refused
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return 0, err // cut off
	}
	return -1, nil
}

// run makes one attempt: heartbeats while its handler runs, then exactly one outcome, however long the server is away.
func run(parent context.Context, job Job) {
	ctx, stop := context.WithTimeout(parent, time.Duration(job.Timeout)*time.Millisecond)
	defer stop()
	path := fmt.Sprintf("/v1/jobs/%d/", job.ID)
	done := make(chan struct{})
	go func() {
		for beat := time.NewTicker(time.Duration(job.VisibilityTimeout) * time.Millisecond / 3); ; {
			select {
			case <-done:
				beat.Stop()
				return
			case <-beat.C:
			}
			var answer struct{ CancelRequested bool }
			var refused Refused
			err := call(context.Background(), "POST", path+"heartbeat", map[string]any{"token": job.Token}, &answer, false)
			if answer.CancelRequested || errors.As(err, &refused) && refused.Code == "LEASE_LOST" {
				stop() // else the server is away: the next one may get there in time
			}
		}
	}()
	result, err := attempt(ctx, job)
	close(done)
	event, told := "succeed", map[string]any{"token": job.Token, "result": result}
	if err != nil {
		event, told = "fail", map[string]any{"token": job.Token, "kind": "temporary", "error": map[string]any{"message": err.Error()}}
		if errors.As(err, &Permanent{}) {
			told["kind"] = "permanent"
		} else if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			told["kind"] = "timeout"
		} else if ctx.Err() != nil {
			event, told = "release", map[string]any{"token": job.Token}
		}
	}
	var fate struct{ State string }
	if err := call(context.Background(), "POST", path+event, told, &fate, true); err != nil {
		log.Printf("job %d attempt %d: %s refused: %v", job.ID, job.Attempt, event, err) // LEASE_LOST: too late
		return
	}
	log.Printf("job %d attempt %d: %s, now %s", job.ID, job.Attempt, event, fate.State)
}

// attempt turns a panic of a handler into a failure.
func attempt(ctx context.Context, job Job) (result any, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("panic: %v", reason)
		}
	}()
	return handlers[job.Type](ctx, job)
}

// Held has the tokens of the jobs that run here, by job.
type Held struct {
	mutex  sync.Mutex
	tokens map[int64]string
}

var held = Held{tokens: map[int64]string{}}

func (held *Held) add(job Job) {
	held.mutex.Lock()
	defer held.mutex.Unlock()
	held.tokens[job.ID] = job.Token
}

func (held *Held) remove(job Job) {
	held.mutex.Lock()
	defer held.mutex.Unlock()
	if held.tokens[job.ID] == job.Token {
		delete(held.tokens, job.ID)
	}
}

func (held *Held) all() []string {
	held.mutex.Lock()
	defer held.mutex.Unlock()
	all := []string{}
	for _, token := range held.tokens {
		all = append(all, token)
	}
	return all
}

func main() {
	slots, err := strconv.Atoi(env("SLOTS", "4"))
	if err != nil {
		log.Fatal("SLOTS: ", err)
	}
	grace, err := time.ParseDuration(env("GRACE", "25s"))
	if err != nil {
		log.Fatal("GRACE: ", err)
	}
	types := []string{}
	for one := range handlers {
		types = append(types, one)
	}
	asked, restore := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	ctx, stopJobs := context.WithCancel(context.Background())
	var running sync.WaitGroup
	log.Printf("%s takes %s", name, strings.Join(types, ", "))

	var failure error
	turn := 0
	request := func() any { // what an earlier answer gave and is not held was lost with it, and goes back
		turn++
		return map[string]any{"worker": name, "types": types, "slots": slots, "turn": turn, "holds": held.all()}
	}
	for asked.Err() == nil && failure == nil {
		var answer struct{ Jobs []Job }
		// A signal ends the request; jobs that were on their way go back when we sign off.
		if err := call(asked, "POST", "/v1/leases", request, &answer, true); err != nil && asked.Err() == nil {
			failure = err // the token, or the request itself: it would be refused again
		}
		for _, job := range answer.Jobs {
			running.Add(1)
			held.add(job)
			go func(job Job) {
				defer running.Done()
				defer held.remove(job)
				run(ctx, job)
			}(job)
		}
	}
	restore() // a second signal ends the process; its jobs go back when their leases are over

	ended := make(chan struct{})
	go func() { running.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(grace):
		stopJobs()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
		}
	}
	last, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var nothing any
	if err := call(last, "DELETE", "/v1/workers/"+name, nil, &nothing, true); err != nil { // what still runs goes back, uncharged
		log.Print("not signed off, what still runs goes back when its lease is over: ", err)
	}
	if failure != nil {
		log.Fatal(failure)
	}
}

func env(key, otherwise string) string {
	if value, ok := os.LookupEnv(key); ok {
		return value
	}
	return otherwise
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "worker"
	}
	return name
}

func min(a, b time.Duration) time.Duration {
	if a < b {
		return a
	}
	return b
}
