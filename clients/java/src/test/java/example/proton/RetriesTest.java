package example.proton;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.StreamObserver;
import java.net.InetSocketAddress;
import java.net.URI;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import proton.v1.CreateEnvironmentTemplateRequest;
import proton.v1.CreateEnvironmentTemplateResponse;
import proton.v1.CreateEnvironmentTemplateVersionRequest;
import proton.v1.CreateEnvironmentTemplateVersionResponse;
import proton.v1.GetServiceRequest;
import proton.v1.GetServiceResponse;
import proton.v1.ProtonServiceGrpc;
import proton.v1.UpdateEnvironmentRequest;
import proton.v1.UpdateEnvironmentResponse;
import proton.v1.WaitEnvironmentDeployedRequest;
import proton.v1.WaitEnvironmentDeployedResponse;
import proton.v1.WaitServiceGrpc;

/** What a client with the gateway's service config sends again, and what it does not. */
final class RetriesTest {
  private static final Metadata.Key<String> PUSHBACK =
      Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);

  private final AtomicInteger attempts = new AtomicInteger();
  private Server server;
  private ManagedChannel channel;

  /** Serves what refuses two attempts like this, and connects as a client of the gateway does. */
  private ProtonServiceGrpc.ProtonServiceBlockingStub failing(Status status, String pushback)
      throws Exception {
    var failing = new Failing(status, pushback);
    server =
        NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", 0))
            .addService(failing.proton())
            .addService(failing.waits())
            .build()
            .start();
    channel =
        Connect.to(
            URI.create("http://127.0.0.1:" + server.getPort()),
            null,
            System.getenv().getOrDefault("PROTON_GATEWAY_SERVICE_CONFIG", "../service-config.json"));
    return ProtonServiceGrpc.newBlockingStub(channel).withDeadlineAfter(20, TimeUnit.SECONDS);
  }

  @AfterEach
  void stop() throws Exception {
    channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    server.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
  }

  private void sentOnce(Runnable call) {
    assertThrows(StatusRuntimeException.class, call::run);
    assertEquals(1, attempts.get());
  }

  @Test
  void aReadIsSentAgain() throws Exception {
    failing(Status.UNAVAILABLE, null)
        .getService(GetServiceRequest.newBuilder().setName("shop").build());
    assertEquals(3, attempts.get());
  }

  @Test
  void aReadThatIsThrottledIsSentAgainWhenTheGatewaySays() throws Exception {
    failing(Status.RESOURCE_EXHAUSTED, "10")
        .getService(GetServiceRequest.newBuilder().setName("shop").build());
    assertEquals(3, attempts.get());
  }

  @Test
  void whatTheGatewaySaysIsNotWorthItIsNotSentAgain() throws Exception {
    var proton = failing(Status.UNAVAILABLE, "-1");
    sentOnce(() -> proton.getService(GetServiceRequest.getDefaultInstance()));
  }

  @Test
  void aRefusalIsNotSentAgain() throws Exception {
    var proton = failing(Status.NOT_FOUND, null);
    sentOnce(() -> proton.getService(GetServiceRequest.getDefaultInstance()));
  }

  @Test
  void aCreationThatIsOneByItsNameIsSentAgain() throws Exception {
    failing(Status.UNAVAILABLE, null)
        .createEnvironmentTemplate(
            CreateEnvironmentTemplateRequest.newBuilder().setName("web").build());
    assertEquals(3, attempts.get());
  }

  @Test
  void aCreationThatNeedsATokenIsNotSentAgain() throws Exception {
    var proton = failing(Status.UNAVAILABLE, null);
    sentOnce(
        () ->
            proton.createEnvironmentTemplateVersion(
                CreateEnvironmentTemplateVersionRequest.getDefaultInstance()));
  }

  @Test
  void anUpdateIsNotSentAgain() throws Exception {
    var proton = failing(Status.UNAVAILABLE, null);
    sentOnce(() -> proton.updateEnvironment(UpdateEnvironmentRequest.getDefaultInstance()));
  }

  @Test
  void aWaitThatDoesNotBeginIsOpenedAgain() throws Exception {
    failing(Status.UNAVAILABLE, null);
    var events =
        WaitServiceGrpc.newBlockingStub(channel)
            .withDeadlineAfter(20, TimeUnit.SECONDS)
            .waitEnvironmentDeployed(
                WaitEnvironmentDeployedRequest.newBuilder().setName("prod").build());
    var count = 0;
    while (events.hasNext()) {
      events.next();
      count++;
    }
    assertEquals(1, count);
    assertEquals(3, attempts.get());
  }

  /** Refuses the first two attempts of whatever is called, and answers the next one. */
  private final class Failing {
    private final Status status;
    private final String pushback;

    Failing(Status status, String pushback) {
      this.status = status;
      this.pushback = pushback;
    }

    private <T> void answer(StreamObserver<T> caller, T message) {
      if (attempts.incrementAndGet() > 2) {
        caller.onNext(message);
        caller.onCompleted();
        return;
      }
      var trailers = new Metadata();
      if (pushback != null) {
        trailers.put(PUSHBACK, pushback);
      }
      caller.onError(status.withDescription("not yet").asRuntimeException(trailers));
    }

    ProtonServiceGrpc.ProtonServiceImplBase proton() {
      return new ProtonServiceGrpc.ProtonServiceImplBase() {
        @Override
        public void getService(
            GetServiceRequest request, StreamObserver<GetServiceResponse> caller) {
          answer(caller, GetServiceResponse.getDefaultInstance());
        }

        @Override
        public void createEnvironmentTemplate(
            CreateEnvironmentTemplateRequest request,
            StreamObserver<CreateEnvironmentTemplateResponse> caller) {
          answer(caller, CreateEnvironmentTemplateResponse.getDefaultInstance());
        }

        @Override
        public void createEnvironmentTemplateVersion(
            CreateEnvironmentTemplateVersionRequest request,
            StreamObserver<CreateEnvironmentTemplateVersionResponse> caller) {
          answer(caller, CreateEnvironmentTemplateVersionResponse.getDefaultInstance());
        }

        @Override
        public void updateEnvironment(
            UpdateEnvironmentRequest request, StreamObserver<UpdateEnvironmentResponse> caller) {
          answer(caller, UpdateEnvironmentResponse.getDefaultInstance());
        }
      };
    }

    WaitServiceGrpc.WaitServiceImplBase waits() {
      return new WaitServiceGrpc.WaitServiceImplBase() {
        @Override
        public void waitEnvironmentDeployed(
            WaitEnvironmentDeployedRequest request,
            StreamObserver<WaitEnvironmentDeployedResponse> caller) {
          answer(caller, WaitEnvironmentDeployedResponse.getDefaultInstance());
        }
      };
    }
  }
}
