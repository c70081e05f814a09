package gateway

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"

	protonv1 "example.com/proton-client/gen/proton/v1"
)

// attempts is how often in a row a stream may break before anything was said.
const attempts = 6

// Receive returns the next event of a stream.
type Receive func() (*protonv1.WaitEvent, error)

// Open opens a stream of a wait that goes on after the event with this token; empty: anew.
type Open func(ctx context.Context, resumeToken string) (Receive, error)

// Follow tells what happens until the wait has ended. No stream lasts longer than streamTime;
// whatever ends one before the wait has ended, the next goes on after the last event. A wait that
// did not end as hoped is an error.
func Follow(ctx context.Context, open Open, streamTime time.Duration, tell func(*protonv1.WaitEvent)) error {
	token := ""
	for broken := 0; ; {
		before := token
		ended, err := followOnce(ctx, open, streamTime, &token, tell)
		if err == nil && ended {
			return nil
		}
		if token != before {
			broken = 0
		}
		if err == nil {
			continue
		}
		broken++
		if broken == attempts || !passes(RefusalOf(err)) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(250 * time.Millisecond << broken):
		}
	}
}

// followOnce follows one stream to its end, and says whether the wait has ended with it.
func followOnce(
	ctx context.Context, open Open, streamTime time.Duration, token *string, tell func(*protonv1.WaitEvent),
) (ended bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, streamTime)
	defer cancel()
	receive, err := open(ctx, *token)
	if err != nil {
		return false, err
	}
	for {
		event, err := receive()
		if errors.Is(err, io.EOF) {
			return ended, nil
		}
		if err != nil {
			return false, err
		}
		*token = event.ResumeToken
		ended = event.GetTerminal() != nil
		// Only the stream ends with a closing: a deadline, or the gateway is about to stop.
		if event.GetClosing() == nil {
			tell(event)
		}
	}
}

func passes(refusal Refusal) bool {
	switch refusal.Code {
	case codes.Unavailable:
		return true
	case codes.DeadlineExceeded:
		// The stream's own; that of the wait has a reason.
		return refusal.Reason != "WAIT_TIMED_OUT"
	default:
		return false
	}
}
