package example.proton;

import io.grpc.Deadline;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.Iterator;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import proton.v1.WaitEvent;

/** Follows a wait to its end, through as many streams as it takes. */
final class Follow {
  /** How often in a row a stream may break before anything was said. */
  private static final int ATTEMPTS = 6;

  private Follow() {}

  /** Opens a stream that goes on after the event with this token; empty: anew. */
  interface Open {
    Iterator<WaitEvent> open(String resumeToken, Deadline deadline);
  }

  /**
   * Tells what happens until the wait has ended. No stream lasts longer than {@code streamTime};
   * whatever ends one before the wait has ended, the next goes on after the last event. A wait that
   * did not end as hoped throws.
   */
  static void follow(Open open, Duration streamTime, Consumer<WaitEvent> tell)
      throws InterruptedException {
    var token = "";
    var broken = 0;
    while (true) {
      var ended = false;
      try {
        var deadline = Deadline.after(streamTime.toMillis(), TimeUnit.MILLISECONDS);
        var events = open.open(token, deadline);
        while (events.hasNext()) {
          var event = events.next();
          broken = 0;
          token = event.getResumeToken();
          ended = event.hasTerminal();
          // Only the stream ends with a closing: a deadline, or the gateway is about to stop.
          if (!event.hasClosing()) {
            tell.accept(event);
          }
        }
      } catch (StatusRuntimeException error) {
        broken++;
        if (broken == ATTEMPTS || !passes(Refusal.of(error))) {
          throw error;
        }
        Thread.sleep(250L << broken);
      }
      if (ended) {
        return;
      }
    }
  }

  private static boolean passes(Refusal refusal) {
    return switch (refusal.code()) {
      case UNAVAILABLE -> true;
      // The stream's own; that of the wait has a reason.
      case DEADLINE_EXCEEDED -> !refusal.reason().equals("WAIT_TIMED_OUT");
      default -> false;
    };
  }
}
