// Proton-walk is a walk through what a client does: proton-walk NAME
//
// It makes an environment template of that name, and deletes it at the end.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"example.com/proton-client/gateway"
	protonv1 "example.com/proton-client/gen/proton/v1"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: proton-walk NAME")
		os.Exit(64)
	}
	if err := walk(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "proton-walk:", err)
		os.Exit(1)
	}
}

func walk(name string) error {
	connection, err := gateway.Connect(gateway.OptionsFromEnvironment())
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := client{
		proton: protonv1.NewProtonServiceClient(connection),
		waits:  protonv1.NewWaitServiceClient(connection),
		pages:  protonv1.NewPaginatorServiceClient(connection),
		name:   name,
	}
	for _, step := range []func(context.Context) error{
		client.call,
		client.registerAndWait,
		client.retryWithAKey,
		client.list,
		client.errors,
		client.clean,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

type client struct {
	proton protonv1.ProtonServiceClient
	waits  protonv1.WaitServiceClient
	pages  protonv1.PaginatorServiceClient
	name   string
}

func (c *client) call(ctx context.Context) error {
	created, err := c.proton.CreateEnvironmentTemplate(ctx, &protonv1.CreateEnvironmentTemplateRequest{Name: c.name})
	if err != nil {
		return err
	}
	fmt.Printf("call: environment template %s was created\n", created.GetEnvironmentTemplate().GetName())
	return nil
}

// register returns the version's number, and whether the answer is that of an earlier call with
// the key.
func (c *client) register(ctx context.Context, key string) (version string, replayed bool, err error) {
	request := &protonv1.CreateEnvironmentTemplateVersionRequest{
		TemplateName: c.name,
		// One of the bundles that every gateway has.
		Source: &protonv1.TemplateVersionSourceInput{
			Source: &protonv1.TemplateVersionSourceInput_S3{
				S3: &protonv1.S3ObjectSource{
					Bucket: "proton-examples",
					Key:    "environment-cloudformation.tar.gz",
				},
			},
		},
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "idempotency-key", key)
	var header metadata.MD
	response, err := c.proton.CreateEnvironmentTemplateVersion(ctx, request, grpc.Header(&header))
	if err != nil {
		return "", false, err
	}
	registered := response.EnvironmentTemplateVersion
	replays := header.Get("idempotency-replayed")
	return registered.GetMajorVersion() + "." + registered.GetMinorVersion(), len(replays) > 0, nil
}

func (c *client) registerAndWait(ctx context.Context) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	if _, _, err := c.register(ctx, key); err != nil {
		return err
	}
	return c.wait(ctx, "1")
}

func (c *client) wait(ctx context.Context, major string) error {
	streams := 0
	open := func(ctx context.Context, resumeToken string) (gateway.Receive, error) {
		streams++
		stream, err := c.waits.WaitEnvironmentTemplateVersionRegistered(
			ctx,
			&protonv1.WaitEnvironmentTemplateVersionRegisteredRequest{
				TemplateName: c.name,
				MajorVersion: major,
				MinorVersion: "0",
				Options:      &protonv1.WaitOptions{ResumeToken: resumeToken},
			},
		)
		if err != nil {
			return nil, err
		}
		return func() (*protonv1.WaitEvent, error) {
			response, err := stream.Recv()
			return response.GetEvent(), err
		}, nil
	}
	var seen []string
	// So short that the wait outlives its first stream.
	err := gateway.Follow(ctx, open, 2*time.Second, func(event *protonv1.WaitEvent) {
		switch event := event.Event.(type) {
		case *protonv1.WaitEvent_Snapshot:
			// Each stream begins with what holds.
			if len(seen) == 0 || seen[len(seen)-1] != event.Snapshot.Status {
				seen = append(seen, event.Snapshot.Status)
			}
		case *protonv1.WaitEvent_Transition:
			seen = append(seen, event.Transition.To)
		case *protonv1.WaitEvent_Terminal:
			seen = append(seen, event.Terminal.Outcome.String())
		}
	})
	if err != nil {
		return err
	}
	resumed := "in one stream"
	if streams > 1 {
		resumed = "resumed"
	}
	fmt.Printf("wait: version %s.0: %s; %s\n", major, strings.Join(seen, ", "), resumed)
	return nil
}

func (c *client) retryWithAKey(ctx context.Context) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	first, _, err := c.register(ctx, key)
	if err != nil {
		return err
	}
	// As if the first answer had been lost.
	second, replayed, err := c.register(ctx, key)
	if err != nil {
		return err
	}
	how := "carried out"
	if replayed {
		how = "replayed"
	}
	fmt.Printf("key: version %s, then %s; %s\n", first, second, how)
	return c.wait(ctx, "2")
}

func (c *client) list(ctx context.Context) error {
	size := int32(1)
	stream, err := c.pages.PageEnvironmentTemplateVersions(ctx, &protonv1.PageEnvironmentTemplateVersionsRequest{
		Request: &protonv1.ListEnvironmentTemplateVersionsRequest{TemplateName: c.name, MaxResults: &size},
	})
	if err != nil {
		return err
	}
	for number := 1; ; number++ {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var majors []string
		for _, version := range response.GetPage().GetTemplateVersions() {
			majors = append(majors, version.GetMajorVersion())
		}
		fmt.Printf("list: page %d: %s\n", number, strings.Join(majors, ", "))
	}
}

func (c *client) errors(ctx context.Context) error {
	_, err := c.proton.GetService(ctx, &protonv1.GetServiceRequest{Name: "nothing"})
	sayRefused(err)
	_, err = c.proton.CreateEnvironment(ctx, &protonv1.CreateEnvironmentRequest{})
	sayRefused(err)
	// Only a gateway with limits refuses this, and one where it costs as much as in clients/run.sh.
	_, err = c.proton.UpdateEnvironmentTemplate(ctx, &protonv1.UpdateEnvironmentTemplateRequest{Name: c.name})
	sayRefused(err)
	return nil
}

func sayRefused(err error) {
	if err == nil {
		fmt.Println("refused: not at all")
		return
	}
	refusal := gateway.RefusalOf(err)
	text := fmt.Sprintf("%s, %s", code.Code(refusal.Code), refusal.Reason)
	if len(refusal.Fields) > 0 {
		fields := make([]string, 0, len(refusal.Fields))
		for field := range refusal.Fields {
			fields = append(fields, field)
		}
		sort.Strings(fields)
		text += ", in " + strings.Join(fields, ", ")
	}
	if refusal.RetryAfter != nil {
		text += ", may come again later"
	}
	fmt.Println("refused: " + text)
}

func (c *client) clean(ctx context.Context) error {
	for _, major := range []string{"1", "2"} {
		request := &protonv1.DeleteEnvironmentTemplateVersionRequest{
			TemplateName: c.name,
			MajorVersion: major,
			MinorVersion: "0",
		}
		if _, err := c.proton.DeleteEnvironmentTemplateVersion(ctx, request); err != nil {
			return err
		}
	}
	_, err := c.proton.DeleteEnvironmentTemplate(ctx, &protonv1.DeleteEnvironmentTemplateRequest{Name: c.name})
	return err
}

func newKey() (string, error) {
	key := make([]byte, 16)
	if _, err := rand.Read(key); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", key), nil
}
