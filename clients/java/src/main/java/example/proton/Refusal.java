package example.proton;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;

/**
 * What an error of the gateway says, out of its details.
 *
 * @param reason a word that stays the same, such as RESOURCE_NOT_FOUND
 * @param facts about the reason
 * @param fields of the request, and what is wrong with them
 * @param retryAfter when the same call may succeed; empty: never by itself
 */
record Refusal(
    Status.Code code,
    String message,
    String reason,
    Map<String, String> facts,
    Map<String, String> fields,
    Optional<Duration> retryAfter) {

  static Refusal of(StatusRuntimeException error) {
    var reason = "";
    var facts = Map.<String, String>of();
    var fields = new TreeMap<String, String>();
    var retryAfter = Optional.<Duration>empty();
    var status = StatusProto.fromThrowable(error);
    if (status != null) {
      try {
        for (Any detail : status.getDetailsList()) {
          if (detail.is(ErrorInfo.class)) {
            var info = detail.unpack(ErrorInfo.class);
            reason = info.getReason();
            facts = info.getMetadataMap();
          } else if (detail.is(BadRequest.class)) {
            for (var violation : detail.unpack(BadRequest.class).getFieldViolationsList()) {
              fields.put(violation.getField(), violation.getDescription());
            }
          } else if (detail.is(RetryInfo.class)) {
            var delay = detail.unpack(RetryInfo.class).getRetryDelay();
            retryAfter = Optional.of(Duration.ofSeconds(delay.getSeconds(), delay.getNanos()));
          }
        }
      } catch (InvalidProtocolBufferException broken) {
        throw new IllegalStateException("the details of an error cannot be read", broken);
      }
    }
    var said = error.getStatus();
    return new Refusal(said.getCode(), said.getDescription(), reason, facts, fields, retryAfter);
  }
}
