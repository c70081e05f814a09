package example.proton;

import io.grpc.CallCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.AbstractStub;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Collectors;
import proton.v1.CreateEnvironmentRequest;
import proton.v1.CreateEnvironmentTemplateRequest;
import proton.v1.CreateEnvironmentTemplateVersionRequest;
import proton.v1.DeleteEnvironmentTemplateRequest;
import proton.v1.DeleteEnvironmentTemplateVersionRequest;
import proton.v1.EnvironmentTemplateVersionSummary;
import proton.v1.GetServiceRequest;
import proton.v1.ListEnvironmentTemplateVersionsRequest;
import proton.v1.PageEnvironmentTemplateVersionsRequest;
import proton.v1.PaginatorServiceGrpc;
import proton.v1.ProtonServiceGrpc;
import proton.v1.S3ObjectSource;
import proton.v1.TemplateVersionSourceInput;
import proton.v1.UpdateEnvironmentTemplateRequest;
import proton.v1.WaitEnvironmentTemplateVersionRegisteredRequest;
import proton.v1.WaitEvent;
import proton.v1.WaitOptions;
import proton.v1.WaitServiceGrpc;

/**
 * A walk through what a client does. Its argument is a name: it makes an environment template of
 * that name, and deletes it at the end.
 */
public final class Walk {
  private static final Metadata.Key<String> KEY =
      Metadata.Key.of("idempotency-key", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<String> REPLAYED =
      Metadata.Key.of("idempotency-replayed", Metadata.ASCII_STRING_MARSHALLER);

  private final ProtonServiceGrpc.ProtonServiceBlockingStub proton;
  private final WaitServiceGrpc.WaitServiceBlockingStub waits;
  private final PaginatorServiceGrpc.PaginatorServiceBlockingStub pages;
  private final String name;

  private Walk(ManagedChannel channel, CallCredentials credentials, String name) {
    proton = with(credentials, ProtonServiceGrpc.newBlockingStub(channel));
    waits = with(credentials, WaitServiceGrpc.newBlockingStub(channel));
    pages = with(credentials, PaginatorServiceGrpc.newBlockingStub(channel));
    this.name = name;
  }

  private static <S extends AbstractStub<S>> S with(CallCredentials credentials, S stub) {
    return credentials == null ? stub : stub.withCallCredentials(credentials);
  }

  /** For what no service config gives a timeout. */
  private static <S extends AbstractStub<S>> S soon(S stub) {
    return stub.withDeadlineAfter(30, TimeUnit.SECONDS);
  }

  public static void main(String[] arguments) throws Exception {
    if (arguments.length != 1) {
      System.err.println("usage: Walk NAME");
      System.exit(64);
    }
    var channel = Connect.fromEnvironment();
    try {
      new Walk(channel, Connect.credentials(), arguments[0]).all();
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private void all() throws InterruptedException {
    call();
    register(UUID.randomUUID().toString());
    await("1");
    retryWithAKey();
    await("2");
    list();
    refused(() -> soon(proton).getService(GetServiceRequest.newBuilder().setName("nothing").build()));
    refused(() -> soon(proton).createEnvironment(CreateEnvironmentRequest.getDefaultInstance()));
    // Only a gateway with limits refuses this, and one where it costs as much as in clients/run.sh.
    var update = UpdateEnvironmentTemplateRequest.newBuilder().setName(name).build();
    refused(() -> soon(proton).updateEnvironmentTemplate(update));
    clean();
  }

  private void call() {
    var request = CreateEnvironmentTemplateRequest.newBuilder().setName(name).build();
    var created = soon(proton).createEnvironmentTemplate(request).getEnvironmentTemplate();
    System.out.printf("call: environment template %s was created%n", created.getName());
  }

  private record Registered(String version, boolean replayed) {}

  /** The version's number, and whether the answer is that of an earlier call with the key. */
  private Registered register(String key) {
    // One of the bundles that every gateway has.
    var bundle =
        S3ObjectSource.newBuilder()
            .setBucket("proton-examples")
            .setKey("environment-cloudformation.tar.gz");
    var request =
        CreateEnvironmentTemplateVersionRequest.newBuilder()
            .setTemplateName(name)
            .setSource(TemplateVersionSourceInput.newBuilder().setS3(bundle))
            .build();
    var sent = new Metadata();
    sent.put(KEY, key);
    var headers = new AtomicReference<Metadata>();
    var trailers = new AtomicReference<Metadata>();
    var response =
        soon(proton)
            .withInterceptors(
                MetadataUtils.newAttachHeadersInterceptor(sent),
                MetadataUtils.newCaptureMetadataInterceptor(headers, trailers))
            .createEnvironmentTemplateVersion(request);
    var version = response.getEnvironmentTemplateVersion();
    return new Registered(
        version.getMajorVersion() + "." + version.getMinorVersion(),
        "true".equals(headers.get().get(REPLAYED)));
  }

  private void await(String major) throws InterruptedException {
    var streams = new ArrayList<String>();
    Follow.Open open =
        (token, deadline) -> {
          streams.add(token);
          var request =
              WaitEnvironmentTemplateVersionRegisteredRequest.newBuilder()
                  .setTemplateName(name)
                  .setMajorVersion(major)
                  .setMinorVersion("0")
                  .setOptions(WaitOptions.newBuilder().setResumeToken(token))
                  .build();
          var responses =
              waits.withDeadline(deadline).waitEnvironmentTemplateVersionRegistered(request);
          return new Iterator<>() {
            @Override
            public boolean hasNext() {
              return responses.hasNext();
            }

            @Override
            public WaitEvent next() {
              return responses.next().getEvent();
            }
          };
        };
    var seen = new ArrayList<String>();
    // So short that the wait outlives its first stream.
    Follow.follow(
        open,
        Duration.ofSeconds(2),
        event -> {
          switch (event.getEventCase()) {
            case SNAPSHOT -> {
              // Each stream begins with what holds.
              if (!seen.contains(event.getSnapshot().getStatus())) {
                seen.add(event.getSnapshot().getStatus());
              }
            }
            case TRANSITION -> seen.add(event.getTransition().getTo());
            case TERMINAL -> seen.add(event.getTerminal().getOutcome().name());
            default -> {}
          }
        });
    System.out.printf(
        "wait: version %s.0: %s; %s%n",
        major, String.join(", ", seen), streams.size() > 1 ? "resumed" : "in one stream");
  }

  private void retryWithAKey() {
    var key = UUID.randomUUID().toString();
    var first = register(key);
    // As if the first answer had been lost.
    var second = register(key);
    System.out.printf(
        "key: version %s, then %s; %s%n",
        first.version(), second.version(), second.replayed() ? "replayed" : "carried out");
  }

  private void list() {
    var request =
        PageEnvironmentTemplateVersionsRequest.newBuilder()
            .setRequest(
                ListEnvironmentTemplateVersionsRequest.newBuilder()
                    .setTemplateName(name)
                    .setMaxResults(1))
            .build();
    var number = 0;
    var stream = soon(pages).pageEnvironmentTemplateVersions(request);
    while (stream.hasNext()) {
      number++;
      var majors =
          stream.next().getPage().getTemplateVersionsList().stream()
              .map(EnvironmentTemplateVersionSummary::getMajorVersion)
              .collect(Collectors.joining(", "));
      System.out.printf("list: page %d: %s%n", number, majors);
    }
  }

  private static void refused(Runnable call) {
    try {
      call.run();
      System.out.println("refused: not at all");
    } catch (StatusRuntimeException error) {
      var refusal = Refusal.of(error);
      var text = refusal.code() + ", " + refusal.reason();
      if (!refusal.fields().isEmpty()) {
        text += ", in " + String.join(", ", refusal.fields().keySet());
      }
      if (refusal.retryAfter().isPresent()) {
        text += ", may come again later";
      }
      System.out.println("refused: " + text);
    }
  }

  private void clean() {
    for (var major : new String[] {"1", "2"}) {
      soon(proton)
          .deleteEnvironmentTemplateVersion(
              DeleteEnvironmentTemplateVersionRequest.newBuilder()
                  .setTemplateName(name)
                  .setMajorVersion(major)
                  .setMinorVersion("0")
                  .build());
    }
    soon(proton)
        .deleteEnvironmentTemplate(
            DeleteEnvironmentTemplateRequest.newBuilder().setName(name).build());
  }
}
