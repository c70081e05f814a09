package gateway

import "google.golang.org/grpc"

// plaintext is for loopback. From grpc-go 1.43 on, write
// grpc.WithTransportCredentials(insecure.NewCredentials()) instead.
func plaintext() grpc.DialOption { return grpc.WithInsecure() }
