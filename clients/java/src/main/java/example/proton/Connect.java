package example.proton;

import com.google.gson.Gson;
import io.grpc.CallCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.SecurityLevel;
import io.grpc.Status;
import io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.NettyChannelBuilder;
import io.netty.handler.ssl.SslContextBuilder;
import java.io.File;
import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;

/** A channel to the gateway: TLS, a token with each call, and what may be retried. */
final class Connect {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private Connect() {}

  /** The same variables as those of {@code proton-gateway wait}, and one for the service config. */
  static ManagedChannel fromEnvironment() throws IOException {
    return to(
        URI.create(System.getenv().getOrDefault("PROTON_GATEWAY_ADDRESS", "http://127.0.0.1:50051")),
        System.getenv("PROTON_GATEWAY_CA_FILE"),
        System.getenv("PROTON_GATEWAY_SERVICE_CONFIG"));
  }

  /** Files may be null: then the system's authorities are trusted, and nothing is retried. */
  static ManagedChannel to(URI address, String authority, String config) throws IOException {
    var builder =
        NettyChannelBuilder.forAddress(
            address.getHost(), address.getPort() < 0 ? 443 : address.getPort());
    switch (address.getScheme()) {
      case "http" -> builder.usePlaintext();
      case "https" -> {
        SslContextBuilder tls = GrpcSslContexts.forClient();
        if (authority != null) {
          tls.trustManager(new File(authority));
        }
        builder.sslContext(tls.build());
      }
      default ->
          throw new IllegalArgumentException(
              address + " is neither an http:// nor an https:// address");
    }
    if (config != null) {
      // What `proton-gateway schema service-config` prints.
      @SuppressWarnings("unchecked")
      Map<String, ?> read = new Gson().fromJson(Files.readString(Path.of(config)), Map.class);
      builder.defaultServiceConfig(read).enableRetry();
    }
    return builder
        // A connection on which nothing comes back any more is given up, so that waits notice.
        .keepAliveTime(1, TimeUnit.MINUTES)
        .keepAliveTimeout(20, TimeUnit.SECONDS)
        .build();
  }

  /** What each stub has to be given, where there is a token; otherwise null. */
  static CallCredentials credentials() {
    var file = System.getenv("PROTON_GATEWAY_TOKEN_FILE");
    return file == null ? null : new BearerToken(Path.of(file));
  }

  /** The file is read anew for each call, so that the token may be replaced meanwhile. */
  private static final class BearerToken extends CallCredentials {
    private final Path file;

    BearerToken(Path file) {
      this.file = file;
    }

    @Override
    public void applyRequestMetadata(
        RequestInfo request, Executor executor, MetadataApplier applier) {
      if (request.getSecurityLevel() != SecurityLevel.PRIVACY_AND_INTEGRITY) {
        applier.fail(
            Status.UNAUTHENTICATED.withDescription(
                "a token is not sent over plain text: give an https:// address"));
        return;
      }
      executor.execute(
          () -> {
            try {
              var metadata = new Metadata();
              metadata.put(AUTHORIZATION, "Bearer " + Files.readString(file).strip());
              applier.apply(metadata);
            } catch (IOException problem) {
              applier.fail(Status.UNAUTHENTICATED.withCause(problem));
            }
          });
    }

    @Override
    public void thisUsesUnstableApi() {}
  }
}
