package bfbridge;

import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Passes printed lines to the log, because a library does not write to the terminal. */
public final class LogStream extends OutputStream {

  private static final int LONGEST = 8192;

  private final ByteArrayOutputStream line = new ByteArrayOutputStream();
  private final Logger log;

  private LogStream(String name) {
    log = LoggerFactory.getLogger(name);
  }

  /** Lets SLF4J search for a logging library; without one it prints a warning at first use. */
  public static void find() {
    PrintStream error = System.err;
    System.setErr(new PrintStream(OutputStream.nullOutputStream(), true));
    try {
      LoggerFactory.getILoggerFactory();
    } catch (LinkageError e) {
      // There is no SLF4J: code that needs it reports that.
      return;
    } finally {
      System.setErr(error);
    }
  }

  /** Redirects standard output and standard error of this Java. */
  public static void install() {
    System.setOut(new PrintStream(new LogStream("java.stdout"), true));
    System.setErr(new PrintStream(new LogStream("java.stderr"), true));
  }

  @Override
  public synchronized void write(int b) {
    if (b == '\n' || line.size() >= LONGEST) {
      emit();
    }
    if (b != '\n' && b != '\r') {
      line.write(b);
    }
  }

  private void emit() {
    if (line.size() > 0) {
      log.warn(new String(line.toByteArray(), StandardCharsets.UTF_8));
      line.reset();
    }
  }
}
