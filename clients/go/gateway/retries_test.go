package gateway_test

import (
	"context"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/proton-client/gateway"
	protonv1 "example.com/proton-client/gen/proton/v1"
)

// failing refuses the first two attempts of whatever is called.
type failing struct {
	protonv1.UnimplementedProtonServiceServer
	attempts int32
}

func (s *failing) attempt() error {
	if atomic.AddInt32(&s.attempts, 1) <= 2 {
		return status.Error(codes.Unavailable, "not yet")
	}
	return nil
}

func (s *failing) GetService(
	context.Context, *protonv1.GetServiceRequest,
) (*protonv1.GetServiceResponse, error) {
	return &protonv1.GetServiceResponse{}, s.attempt()
}

func (s *failing) UpdateEnvironment(
	context.Context, *protonv1.UpdateEnvironmentRequest,
) (*protonv1.UpdateEnvironmentResponse, error) {
	return &protonv1.UpdateEnvironmentResponse{}, s.attempt()
}

// start serves s, and connects to it as a client of the gateway does.
func start(t *testing.T, s *failing) protonv1.ProtonServiceClient {
	t.Helper()
	config := os.Getenv("PROTON_GATEWAY_SERVICE_CONFIG")
	if config == "" || os.Getenv("GRPC_GO_RETRY") != "on" {
		t.Skip("PROTON_GATEWAY_SERVICE_CONFIG is not set, or GRPC_GO_RETRY is not on")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	protonv1.RegisterProtonServiceServer(server, s)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	connection, err := gateway.Connect(gateway.Options{
		Address:           "http://" + listener.Addr().String(),
		ServiceConfigFile: config,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return protonv1.NewProtonServiceClient(connection)
}

func TestAReadIsSentAgain(t *testing.T) {
	server := &failing{}
	client := start(t, server)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := client.GetService(ctx, &protonv1.GetServiceRequest{Name: "shop"}); err != nil {
		t.Fatal(err)
	}
	if got := atomic.LoadInt32(&server.attempts); got != 3 {
		t.Errorf("%d attempts, wanted 3", got)
	}
}

func TestAnUpdateIsNotSentAgain(t *testing.T) {
	server := &failing{}
	client := start(t, server)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := client.UpdateEnvironment(ctx, &protonv1.UpdateEnvironmentRequest{Name: "prod"})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, wanted UNAVAILABLE", err)
	}
	if got := atomic.LoadInt32(&server.attempts); got != 1 {
		t.Errorf("%d attempts, wanted 1", got)
	}
}
