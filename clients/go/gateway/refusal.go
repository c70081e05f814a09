package gateway

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Refusal is what an error of the gateway says, out of its details.
type Refusal struct {
	Code    codes.Code
	Message string
	// Reason is a word that stays the same, such as RESOURCE_NOT_FOUND; Facts are about it.
	Reason string
	Facts  map[string]string
	// Fields of the request, and what is wrong with them.
	Fields map[string]string
	// RetryAfter is when the same call may succeed; nil: never by itself.
	RetryAfter *time.Duration
}

// RefusalOf reads an error of a call.
func RefusalOf(err error) Refusal {
	said := status.Convert(err)
	refusal := Refusal{Code: said.Code(), Message: said.Message()}
	for _, detail := range said.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			refusal.Reason = detail.Reason
			refusal.Facts = detail.Metadata
		case *errdetails.BadRequest:
			refusal.Fields = make(map[string]string)
			for _, violation := range detail.FieldViolations {
				refusal.Fields[violation.Field] = violation.Description
			}
		case *errdetails.RetryInfo:
			delay := detail.RetryDelay.AsDuration()
			refusal.RetryAfter = &delay
		}
	}
	return refusal
}
