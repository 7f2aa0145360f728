package bfbridge;

/** A file is read without end. An Error: readers catch exceptions, and go on. */
final class Endless extends Error {

  private static final long serialVersionUID = 1L;

  Endless(String message) {
    super(message);
  }
}
