package bfbridge;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.UnsynchronizedAppenderBase;
import org.slf4j.LoggerFactory;

/** Passes the events of logback to a listener. */
public final class Log extends UnsynchronizedAppenderBase<ILoggingEvent> {

  /** Receives the events. */
  public interface Listener {
    void said(int level, String logger, String message);
  }

  private final Listener listener;

  private Log(Listener listener) {
    this.listener = listener;
    setName("bfbridge");
  }

  /** Replaces all previous listeners. Levels are logback's: WARN is 30000. */
  public static Log install(Listener listener, int level) {
    Log log = new Log(listener);
    Logger root = root();
    root.detachAndStopAllAppenders();
    log.setContext(root.getLoggerContext());
    log.follow(level);
    log.start();
    root.addAppender(log);
    return log;
  }

  /** Sets the lowest level to log; other events are not created. */
  public void follow(int level) {
    root().setLevel(Level.toLevel(level));
  }

  /** Drops all events from now on. */
  public void detach() {
    root().detachAppender(this);
  }

  @Override
  protected void append(ILoggingEvent event) {
    listener.said(
        event.getLevel().toInt(), event.getLoggerName(), event.getFormattedMessage());
  }

  private static Logger root() {
    return (Logger) LoggerFactory.getLogger(Logger.ROOT_LOGGER_NAME);
  }
}
