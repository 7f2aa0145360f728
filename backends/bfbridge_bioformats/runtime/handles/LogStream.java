package bfbridge;

import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Hands what Java code prints to the log, line by line: a library does not write to the terminal. */
public final class LogStream extends OutputStream {

  private static final int LONGEST = 8192;

  private final ByteArrayOutputStream line = new ByteArrayOutputStream();
  private final Logger log;

  private LogStream(String name) {
    log = LoggerFactory.getLogger(name);
  }

  /** Takes over standard output and standard error of this Java. */
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
