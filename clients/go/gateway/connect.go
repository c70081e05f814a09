// Package gateway connects to a Proton gateway, reads its errors, and follows its waits.
package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// Options say how to reach the gateway. The zero value is plain text on loopback.
type Options struct {
	// Address is an http:// or https:// URL.
	Address string
	// CAFile has who issued the gateway's certificate; empty: whom the system trusts.
	CAFile string
	// TokenFile has the bearer token that is sent with each call.
	TokenFile string
	// ServiceConfigFile has what `proton-gateway schema service-config` prints.
	ServiceConfigFile string
}

// OptionsFromEnvironment reads the variables of `proton-gateway wait`, and one for the service
// config.
func OptionsFromEnvironment() Options {
	return Options{
		Address:           os.Getenv("PROTON_GATEWAY_ADDRESS"),
		CAFile:            os.Getenv("PROTON_GATEWAY_CA_FILE"),
		TokenFile:         os.Getenv("PROTON_GATEWAY_TOKEN_FILE"),
		ServiceConfigFile: os.Getenv("PROTON_GATEWAY_SERVICE_CONFIG"),
	}
}

// Connect makes a connection; it is opened by the first call.
func Connect(options Options) (*grpc.ClientConn, error) {
	if options.Address == "" {
		options.Address = "http://127.0.0.1:50051"
	}
	address, err := url.Parse(options.Address)
	if err != nil {
		return nil, fmt.Errorf("the gateway's address: %w", err)
	}
	// A connection on which nothing comes back any more is given up, so that waits notice.
	dial := []grpc.DialOption{grpc.WithKeepaliveParams(keepalive.ClientParameters{
		Time:    time.Minute,
		Timeout: 20 * time.Second,
	})}
	switch address.Scheme {
	case "http":
		if options.TokenFile != "" {
			return nil, errors.New("a token is not sent over plain text: give an https:// address")
		}
		dial = append(dial, plaintext())
	case "https":
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if options.CAFile != "" {
			pem, err := os.ReadFile(options.CAFile)
			if err != nil {
				return nil, err
			}
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("%s holds no certificate", options.CAFile)
			}
		}
		dial = append(dial, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	default:
		return nil, fmt.Errorf("%s is neither an http:// nor an https:// address", options.Address)
	}
	if options.TokenFile != "" {
		dial = append(dial, grpc.WithPerRPCCredentials(bearerToken(options.TokenFile)))
	}
	if options.ServiceConfigFile != "" {
		config, err := os.ReadFile(options.ServiceConfigFile)
		if err != nil {
			return nil, err
		}
		dial = append(dial, grpc.WithDefaultServiceConfig(string(config)))
	}
	return grpc.Dial(address.Host, dial...)
}

// bearerToken is the file of a token. It is read anew for each call, so that it may be replaced.
type bearerToken string

func (file bearerToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := os.ReadFile(string(file))
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + strings.TrimSpace(string(token))}, nil
}

func (bearerToken) RequireTransportSecurity() bool { return true }
