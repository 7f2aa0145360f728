package bfbridge;

/** A file is read without end. An Error: readers catch exceptions and continue. */
public final class Endless extends Error {

  private static final long serialVersionUID = 1L;

  public Endless(String message) {
    super(message);
  }
}
